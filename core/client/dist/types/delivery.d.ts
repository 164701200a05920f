import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
import type { Bytes } from './wire';
/** Name of a lane. Each lane keeps its order; `interactive` messages are delivered first. */
export type LaneName = 'interactive' | 'bulk';
/**
 * Handles a message. `data.buffer` contains only this message. If the handler returns a promise,
 * the next message of the lane waits until it settles.
 */
export type MessageHandler = (data: Bytes, lane: LaneName) => unknown;
/** Delivers received messages to the application. */
export declare class Delivery {
    #private;
    /** Maximum size of an inflated message in bytes. */
    inflated: number;
    constructor(machine: DocumentMachine, inflated: number, now: () => number, environment: Environment, resume: () => void);
    get handler(): MessageHandler | null;
    set handler(handler: MessageHandler | null);
    /** Delivers waiting messages in the current task. Without a handler, they keep waiting. */
    deliver(): void;
    /** Stops delivery unless it restarts in the same task. */
    stop(): void;
    start(): void;
}
export declare function isPromise(value: unknown): value is PromiseLike<unknown>;
