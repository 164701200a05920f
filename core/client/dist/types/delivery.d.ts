import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
import type { Bytes } from './wire';
/** Messages of one lane arrive in order; `interactive` goes first. */
export type LaneName = 'interactive' | 'bulk';
/**
 * Handles a message. `data.buffer` holds nothing else. While a promise that the handler returned is
 * pending, the next message of the lane waits.
 */
export type MessageHandler = (data: Bytes, lane: LaneName) => unknown;
/** Delivers received messages to the application. */
export declare class Delivery {
    #private;
    /** Highest size in bytes of an inflated message. */
    inflated: number;
    constructor(machine: DocumentMachine, inflated: number, now: () => number, environment: Environment, resume: () => void);
    get handler(): MessageHandler | null;
    set handler(handler: MessageHandler | null);
    /** Delivers what waits, in the current task. Messages wait for a handler. */
    deliver(): void;
    /** Stops delivery, unless it is started again in the same task. */
    stop(): void;
    start(): void;
}
