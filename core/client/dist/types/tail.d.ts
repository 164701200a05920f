import type { OutboxLane } from './outbox';
/** Detects the loss of what was written last on a connection. No gap shows it, because nothing follows. */
export declare class Tail {
    #private;
    constructor(lanes: readonly OutboxLane[]);
    /** Starts anew for a connection on which nothing has been written. */
    restart(now: number): void;
    /** Notes that a ping is being written. */
    ask(nonce: number, now: number): void;
    /** Handles a frame whose counts have been handled. */
    handleFrame(now: number): void;
    /** Handles a pong whose counts have been handled; throws a `Loss` if the server lacks what was written before its ping. */
    handlePong(nonce: number): void;
    /** Returns when to send a ping, if frames wait for acknowledgement. `Connected` deals with silence. */
    deadline(heartbeat: number): number;
}
