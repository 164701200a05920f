import { connect, OutboxFull, registerConnection, type Session, SessionOver, TooLarge } from './index';
declare global {
    interface Window {
        /** `session` is the one of the ticket in the script tag, null if there is none. */
        stillhere: {
            readonly connect: typeof connect;
            readonly registerConnection: typeof registerConnection;
            readonly session: Session | null;
            readonly OutboxFull: typeof OutboxFull;
            readonly TooLarge: typeof TooLarge;
            readonly SessionOver: typeof SessionOver;
        };
    }
}
