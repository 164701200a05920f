import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
import type { Bytes } from './wire';
/** Messages of one lane arrive in order; `interactive` goes first. */
export type LaneName = 'interactive' | 'bulk';
/**
 * Takes a message, which is alone in its buffer: `data.buffer` holds nothing else. While a promise that it returned is pending, the next message
 * of the lane waits.
 */
export type MessageHandler = (data: Bytes, lane: LaneName) => unknown;
/** Hands the messages that a machine has received to the application. */
export declare class Delivery {
    #private;
    /** The most bytes that a compressed message may inflate to. */
    inflated: number;
    constructor(machine: DocumentMachine, inflated: number, now: () => number, environment: Environment, resume: () => void);
    get handler(): MessageHandler | null;
    set handler(handler: MessageHandler | null);
    /** Hands over what waits, in this very task; messages wait for a handler. */
    deliver(): void;
    /** Hands over nothing more, unless it is started again in the same task. */
    stop(): void;
    start(): void;
}
