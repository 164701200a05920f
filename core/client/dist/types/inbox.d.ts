import { type Bytes, type Limits } from './wire';
export interface Message {
    /** Owns its buffer unless it is compressed. */
    payload: Bytes;
    /** True if the payload is a zlib stream. */
    compressed: boolean;
}
/**
 * Received messages of one lane: incomplete, waiting, and the one that the application has taken.
 */
export declare class InboxLane {
    #private;
    /** Highest accepted sequence. The peer may forget everything up to it. */
    received: number;
    /** Charge of everything stored here. */
    charge: number;
    /** Charge that the peer may send at the start. */
    window: number;
    constructor(window: number);
    /** Charge that the peer may send since the incarnation began. */
    get credit(): number;
    /** True if the counts have changed enough to be reported now. */
    get isDue(): boolean;
    /** Records that the counts are being reported to the peer. */
    tell(): void;
    /**
     * Handles a data frame; returns false for a duplicate. Throws a `Violation`, whose code is Gap
     * for a skipped sequence.
     */
    accept(flags: number, sequence: number, payload: Bytes, limits: Limits): boolean;
    /** Returns the next message, once the previous one has been released. */
    take(): Message | undefined;
    /** Releases the message that the application took; returns false if it had none. */
    release(): boolean;
}
