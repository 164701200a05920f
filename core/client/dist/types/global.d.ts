import { connect, discard, OutboxFull, registerConnection, type Session, SessionOver, TooLarge } from './index';
declare global {
    interface Window {
        stillhere: {
            readonly connect: typeof connect;
            readonly discard: typeof discard;
            readonly registerConnection: typeof registerConnection;
            /** Of the ticket in the script tag that ran last, null if there was none. */
            session: Session | null;
            readonly OutboxFull: typeof OutboxFull;
            readonly TooLarge: typeof TooLarge;
            readonly SessionOver: typeof SessionOver;
        };
    }
}
