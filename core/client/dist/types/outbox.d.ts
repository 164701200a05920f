import { type Bytes, type Lane } from './wire';
interface Outgoing {
    bytes: Bytes;
    /** True for the last fragment of a message. */
    last: boolean;
    charge: number;
    /** Charge of all frames of the lane up to this one. */
    total: number;
}
/** Data frames of one lane, encoded when their message is admitted and kept until they are acknowledged. */
export declare class OutboxLane {
    #private;
    /** Number of messages that are not wholly acknowledged. */
    messages: number;
    constructor(lane: Lane);
    /** Charge of what is not acknowledged. */
    get charge(): number;
    /** The last sequence that the peer has received. */
    get acknowledged(): number;
    /** The last sequence sent on the current connection, or acknowledged before. */
    get written(): number;
    /** Copies a message in and cuts it into frames. Throws `OutboxFull` if it does not fit, unless the lane is empty. */
    admit(payload: Uint8Array, fragment: number, limit: number): void;
    /** Cuts all messages anew, for a peer that has received none of them. */
    recut(fragment: number): void;
    /** Returns the frame to send next, if the peer's credit allows it. */
    peek(): Outgoing | undefined;
    /** Notes that the frame from `peek` has been handed to the transport. */
    advance(): void;
    /** Handles the peer's counts. */
    acknowledge(received: number, credit: number): void;
    /** Begins a connection: what is not acknowledged is sent again. */
    rewind(): void;
}
export {};
