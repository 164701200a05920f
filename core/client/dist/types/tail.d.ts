import type { OutboxLane } from './outbox';
/**
 * Detects the loss of the last frames written on a connection, which no gap shows because nothing
 * follows them.
 */
export declare class Tail {
    #private;
    constructor(lanes: readonly OutboxLane[]);
    /** Resets the state for a connection on which nothing has been written. */
    restart(now: number): void;
    /** Records that a ping is being written. */
    ask(nonce: number, now: number): void;
    /** Handles a frame whose counts have been handled. */
    handleFrame(now: number): void;
    /**
     * Handles a pong whose counts have been handled; throws a `Loss` if the server lacks what was
     * written before its ping.
     */
    handlePong(nonce: number): void;
    /**
     * Returns when to send a ping if frames wait for acknowledgement. `Connected` handles silence.
     */
    deadline(heartbeat: number): number;
}
