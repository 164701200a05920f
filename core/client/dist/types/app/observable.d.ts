import type { Host } from './host';
import type { Newest, NewestValues } from './newest';
import { type Unit } from './unit';
/**
 * A value that the page and the server set and watch. The newest wins; values that are replaced
 * before they are sent are never sent. It fits Svelte's contract for stores.
 */
export declare class Observable<T> implements Newest {
    #private;
    readonly name: string;
    readonly label: string;
    /** Use `AppSession.observable`. */
    constructor(name: string, initial: T, host: Host, newest: NewestValues);
    get value(): T;
    /** Returns the value. Bound, for React's `useSyncExternalStore`. */
    readonly getSnapshot: () => T;
    /** Sets the value here and, as soon as possible, at the server. Never throws. */
    set(value: T): void;
    update(change: (value: T) => T): void;
    /** Calls `listener` now and after each change, until the returned function is called. */
    subscribe(listener: (value: T) => unknown): () => void;
    /** Sends the newest set. Internal. */
    sendNewest(): void;
    /** Takes a set from the server. Throws `Undecodable`. Internal. */
    receive(set: Unit): void;
    /** Begins anew with a new session. Internal. */
    reset(): void;
}
