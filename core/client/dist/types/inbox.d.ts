import { type Bytes, type Limits } from './wire';
export interface Message {
    /** Alone in its buffer, unless it is compressed. */
    payload: Bytes;
    /** The payload is a zlib stream. */
    compressed: boolean;
}
/** One lane's received messages: half assembled, waiting, and the one in the application's hands. */
export declare class InboxLane {
    #private;
    /** Highest sequence accepted; the peer may forget up to here. */
    received: number;
    /** Charge of everything stored here. */
    charge: number;
    /** The charge that the peer is granted at the start. */
    window: number;
    constructor(window: number);
    /** What the peer may send, as a charge since the incarnation began. */
    get credit(): number;
    /** So much is untold that it must not wait. */
    get isDue(): boolean;
    /** The counts are being written to the peer. */
    tell(): void;
    /** Takes a data frame in; false for a duplicate. Throws a `Violation`, with code Gap for a skipped sequence. */
    accept(flags: number, sequence: number, payload: Bytes, limits: Limits): boolean;
    /** The next message, once the one before has been released. */
    take(): Message | undefined;
    /** The application is done with the message it took; false if it had none. */
    release(): boolean;
}
