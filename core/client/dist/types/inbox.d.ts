import { type Bytes, type Limits } from './wire';
export interface Message {
    /** Has a buffer of its own, unless it is compressed. */
    payload: Bytes;
    /** The payload is a zlib stream. */
    compressed: boolean;
}
/** Received messages of one lane: half assembled, waiting, and the one that the application has taken. */
export declare class InboxLane {
    #private;
    /** Highest accepted sequence. The peer may forget everything up to it. */
    received: number;
    /** Charge of everything stored here. */
    charge: number;
    /** Charge that the peer is granted at the start. */
    window: number;
    constructor(window: number);
    /** Charge that the peer may send since the incarnation began. */
    get credit(): number;
    /** True if so much has changed that the peer must be told now. */
    get isDue(): boolean;
    /** Notes that the counts are being written to the peer. */
    tell(): void;
    /** Takes a data frame in; returns false for a duplicate. Throws a `Violation`, with code Gap for a skipped sequence. */
    accept(flags: number, sequence: number, payload: Bytes, limits: Limits): boolean;
    /** Returns the next message, once the previous one has been released. */
    take(): Message | undefined;
    /** Releases the message that the application took; returns false if it had none. */
    release(): boolean;
}
