import { type Bytes, type Lane } from './wire';
interface Outgoing {
    bytes: Bytes;
    /** True for the last fragment of a message. */
    last: boolean;
    charge: number;
    /** Charge of all frames of the lane up to this one. */
    total: number;
}
/** Data frames of one lane, encoded on admission and kept until they are acknowledged. */
export declare class OutboxLane {
    #private;
    /** Number of messages that are not fully acknowledged. */
    messages: number;
    constructor(lane: Lane);
    /** Charge of the unacknowledged frames. */
    get charge(): number;
    /** Last sequence that the peer has received. */
    get acknowledged(): number;
    /** Last sequence sent on the current connection or acknowledged before it. */
    get written(): number;
    /**
     * Copies a message and splits it into frames. Throws `OutboxFull` if it does not fit, unless the
     * lane is empty.
     */
    admit(payload: Uint8Array, fragment: number, limit: number): void;
    /** Splits all messages again, for a peer that has received none of them. */
    recut(fragment: number): void;
    /** Returns the frame to send next, if the peer's credit allows it. */
    peek(): Outgoing | undefined;
    /** Moves on after the frame from `peek` was handed to the transport. */
    advance(): void;
    /** Handles the peer's counts. */
    acknowledge(received: number, credit: number): void;
    /** Prepares a new connection, on which all unacknowledged frames are sent again. */
    rewind(): void;
}
export {};
