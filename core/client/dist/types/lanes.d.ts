import { InboxLane } from './inbox';
import { OutboxLane } from './outbox';
import { type Bytes, type Counts, type Lane, type Limits, type ServerFrame, Type } from './wire';
/** Both lanes in both directions. */
export declare class Lanes {
    #private;
    readonly outboxes: readonly [OutboxLane, OutboxLane];
    readonly inboxes: readonly [InboxLane, InboxLane];
    /** When an acknowledgement is due. */
    ackAt: number;
    constructor(limits: Limits, outbox?: number);
    get limits(): Limits;
    /** Limits of another session, which is to get what was sent. */
    set limits(limits: Limits);
    /** Copies a message into the lane's outbox; throws `OutboxFull` if it does not fit. */
    admit(lane: Lane, payload: Uint8Array): void;
    release(lane: Lane, now: number): void;
    /** Takes data in; returns false for a duplicate. */
    handleData({ flags, sequence, payload }: ServerFrame & {
        type: Type.Data;
    }, now: number): boolean;
    handleCounts({ received, credit }: Counts): void;
    /** Encodes a frame that ends with our counts, which the server has been told from then on. */
    pollCounts(type: number, numbers?: readonly number[], before?: readonly number[]): Bytes;
    /** Returns the next acknowledgement or data frame: interactive first, but bulk is not starved. */
    pollTransmit(bulkAllowed: boolean, now: number): Bytes | undefined;
    /** Begins a connection: what is not acknowledged is sent again. */
    rewind(): void;
    /** Number of messages that the server has not acknowledged. */
    get unacknowledged(): number;
}
