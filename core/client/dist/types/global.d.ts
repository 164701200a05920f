import { connect, discard, OutboxFull, registerConnection, type Session, SessionOver, TooLarge } from './index';
declare global {
    interface Window {
        stillhere: {
            readonly connect: typeof connect;
            readonly discard: typeof discard;
            readonly registerConnection: typeof registerConnection;
            /** Session of the ticket in the script tag that ran last; null if it had none. */
            session: Session | null;
            readonly OutboxFull: typeof OutboxFull;
            readonly TooLarge: typeof TooLarge;
            readonly SessionOver: typeof SessionOver;
        };
    }
}
