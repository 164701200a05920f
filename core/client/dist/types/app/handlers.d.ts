import type { Environment } from '../environment';
import type { Outgoing } from './outgoing';
import { type Unit } from './unit';
/** `signal` is aborted when the caller no longer waits, and when the session is over. */
export type CallHandler = (query: unknown, context: {
    readonly signal: AbortSignal;
}) => unknown;
/** Runs the handlers of the server's calls. */
export declare class Handlers {
    #private;
    constructor(outgoing: Outgoing, most: {
        readonly running: number;
        readonly waiting: number;
    }, environment: Pick<Environment, 'setTimeout'>, failed: (source: string, error: unknown) => void);
    /** Sets the handler of a name, and returns a function that removes it. */
    set(name: string, handler: CallHandler): () => void;
    receive(call: Unit): void;
    cancel(id: number): void;
    /** Lets the handler of a call send further items of its stream. */
    more({ id, count }: Unit): void;
    /** Drops everything: nobody waits any more. */
    end(): void;
}
