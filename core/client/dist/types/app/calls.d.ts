import type { Environment } from '../environment';
import type { Outgoing } from './outgoing';
import { Stream } from './stream';
import { type Unit } from './unit';
export interface CallOptions {
    /** Milliseconds to wait for the answer. By default, a call waits until the session is over. */
    readonly timeout?: number;
    /** Cancels the call when aborted. The other side stops too, if its handler heeds that. */
    readonly signal?: AbortSignal;
}
/** The page's calls that wait for an answer. */
export declare class Calls {
    #private;
    constructor(outgoing: Outgoing, limit: number, environment: Pick<Environment, 'setTimeout' | 'clearTimeout'>);
    /**
     * Resolves with the answer. Rejects with a `CallError`; and with `OutboxFull`, `TooLarge` or the
     * error of the codec if the call cannot be sent.
     */
    call(name: string, query: unknown, options: CallOptions): Promise<unknown>;
    /** Returns the items of the answer. The iterator rejects as `call` does. */
    stream(name: string, query: unknown, options: CallOptions): Stream;
    answer({ id, bytes, at }: Unit): void;
    fail({ id, code, bytes, at }: Unit): void;
    item(item: Unit): void;
    /** Rejects every call that waits. */
    end(text: string): void;
}
