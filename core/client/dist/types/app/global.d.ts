import { discard, OutboxFull, registerConnection, SessionOver, TooLarge } from '../index';
import { type AppSession, attach, CallError, connect } from './index';
/** `window.stillhere` of a page that loads this script. */
export interface AppGlobal {
    readonly connect: typeof connect;
    readonly attach: typeof attach;
    readonly discard: typeof discard;
    readonly registerConnection: typeof registerConnection;
    /** Session of the ticket in the script tag that ran last; null if it had none. */
    session: AppSession | null;
    readonly CallError: typeof CallError;
    readonly OutboxFull: typeof OutboxFull;
    readonly TooLarge: typeof TooLarge;
    readonly SessionOver: typeof SessionOver;
}
