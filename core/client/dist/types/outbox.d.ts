import { type Bytes, type Lane } from './wire';
interface Outgoing {
    bytes: Bytes;
    /** No fragment of its message follows. */
    last: boolean;
    charge: number;
    /** The charge of all frames of the lane up to this one. */
    total: number;
}
/** One lane's data frames, encoded when their message is admitted and kept until they are acknowledged. */
export declare class OutboxLane {
    #private;
    /** Messages not wholly acknowledged. */
    messages: number;
    constructor(lane: Lane);
    /** Charge of what is not acknowledged. */
    get charge(): number;
    /** The last sequence that the peer has received. */
    get acknowledged(): number;
    /** The last sequence sent on the current connection, or acknowledged before. */
    get written(): number;
    /** Copies a message in, cut into its frames for good; throws when it does not fit, unless the lane is empty. */
    admit(payload: Uint8Array, fragment: number, limit: number): void;
    /** Cuts everything anew, for a peer that has seen none of it. */
    recut(fragment: number): void;
    /** The frame to send next, if the peer's credit allows it. */
    peek(): Outgoing | undefined;
    /** What `peek` gave has been handed to the transport. */
    advance(): void;
    /** Takes the peer's counts. */
    acknowledge(received: number, credit: number): void;
    /** A new connection: what is not acknowledged is sent again. */
    rewind(): void;
}
export {};
