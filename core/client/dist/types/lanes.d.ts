import { InboxLane } from './inbox';
import { OutboxLane } from './outbox';
import { type Bytes, type Counts, type Lane, type Limits, type ServerFrame, Type } from './wire';
/** The outboxes and inboxes of both lanes. */
export declare class Lanes {
    #private;
    readonly outboxes: readonly [OutboxLane, OutboxLane];
    readonly inboxes: readonly [InboxLane, InboxLane];
    /** When an acknowledgement is due. */
    ackAt: number;
    constructor(limits: Limits, outbox?: number);
    get limits(): Limits;
    /** Adopts the limits of another session, which gets the messages sent so far. */
    set limits(limits: Limits);
    /** Copies a message into the lane's outbox; throws `OutboxFull` if it does not fit. */
    admit(lane: Lane, payload: Uint8Array): void;
    release(lane: Lane, now: number): void;
    /** Handles a data frame; returns false for a duplicate. */
    handleData({ flags, sequence, payload }: ServerFrame & {
        type: Type.Data;
    }, now: number): boolean;
    handleCounts({ received, credit }: Counts): void;
    /** Encodes a frame that ends with our counts, and records them as reported. */
    pollCounts(type: number, numbers?: readonly number[], before?: readonly number[]): Bytes;
    /** Returns the next acknowledgement or data frame: interactive first, without starving bulk. */
    pollTransmit(bulkAllowed: boolean, now: number): Bytes | undefined;
    /** Prepares a new connection, on which all unacknowledged frames are sent again. */
    rewind(): void;
    /** Number of messages that the server has not acknowledged. */
    get unacknowledged(): number;
}
