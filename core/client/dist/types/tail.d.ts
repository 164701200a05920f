import type { OutboxLane } from './outbox';
/** Finds out whether the server lacks what was written last on a connection: no gap shows it, because nothing follows. */
export declare class Tail {
    #private;
    constructor(lanes: readonly OutboxLane[]);
    /** A connection on which nothing has been written. */
    restart(now: number): void;
    /** A ping is being written. */
    ask(nonce: number, now: number): void;
    /** A frame has come, and its counts are taken in. */
    handleFrame(now: number): void;
    /** A pong has come, and its counts are taken in. */
    handlePong(nonce: number): void;
    /** When to send a ping, if frames wait for their acknowledgement. Silence is another's concern. */
    deadline(heartbeat: number): number;
}
