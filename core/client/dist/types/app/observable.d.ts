import type { Newest } from './newest';
import type { Outgoing } from './outgoing';
/** What an observable needs of its session. */
export interface Publisher {
    /** Sends the newest value now, or once the previous one has arrived. */
    publish(observable: Observable<never>): void;
    /** Told of a listener that threw. */
    failed(source: string, error: unknown): void;
}
/**
 * A value that the page and the server set and watch. The newest wins; values that are replaced
 * before they are sent are never sent. It fits Svelte's contract for stores.
 */
export declare class Observable<T> implements Newest {
    #private;
    readonly name: string;
    readonly source: string;
    /** Use `AppSession.observable`. */
    constructor(name: string, initial: T, publisher: Publisher);
    get value(): T;
    /** Returns the value. Bound, for React's `useSyncExternalStore`. */
    readonly getSnapshot: () => T;
    /** Sets the value here and, as soon as possible, at the server. Never throws. */
    set(value: T): void;
    update(change: (value: T) => T): void;
    /** Calls `listener` now and after each change, until the returned function is called. */
    subscribe(listener: (value: T) => unknown): () => void;
    /** Number of this document's newest set. Internal. */
    get number(): number;
    /** Sends the newest set. Internal. */
    put(outgoing: Outgoing): void;
    /** Takes a value from the server, which has seen this document's sets up to `number`. Internal. */
    receive(number: number, decode: () => unknown): void;
    /** Begins anew with a new session. Internal. */
    reset(): void;
}
