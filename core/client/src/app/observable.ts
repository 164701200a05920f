import type { Newest } from './newest';
import type { Outgoing } from './outgoing';
import { Kind } from './unit';

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
export class Observable<T> implements Newest {
  readonly name: string;
  readonly source: string;
  readonly #initial: T;
  readonly #publisher: Publisher;
  readonly #listeners = new Set<(value: T) => unknown>();
  #value: T;
  /** Number of this document's own sets. */
  #number = 0;

  /** Use `AppSession.observable`. */
  constructor(name: string, initial: T, publisher: Publisher) {
    this.name = name;
    this.source = `observable ${name}`;
    this.#initial = initial;
    this.#value = initial;
    this.#publisher = publisher;
  }

  get value(): T {
    return this.#value;
  }

  /** Returns the value. Bound, for React's `useSyncExternalStore`. */
  readonly getSnapshot = (): T => this.#value;

  /** Sets the value here and, as soon as possible, at the server. Never throws. */
  set(value: T): void {
    this.#number += 1;
    this.#change(value);
    this.#publisher.publish(this as unknown as Observable<never>);
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }

  /** Calls `listener` now and after each change, until the returned function is called. */
  subscribe(listener: (value: T) => unknown): () => void {
    const own = (value: T): unknown => listener(value);
    this.#listeners.add(own);
    this.#tell(own);
    return () => void this.#listeners.delete(own);
  }

  /** Number of this document's newest set. Internal. */
  get number(): number {
    return this.#number;
  }

  /** Sends the newest set. Internal. */
  put(outgoing: Outgoing): void {
    outgoing.value(Kind.Set, { name: this.name, number: this.#number }, this.#value);
  }

  /** Takes a value from the server, which has seen this document's sets up to `number`. Internal. */
  receive(number: number, decode: () => unknown): void {
    // Otherwise the page's own set is on its way, and will be the newer one at the server too.
    if (number === this.#number) this.#change(decode() as T);
  }

  /** Begins anew with a new session. Internal. */
  reset(): void {
    this.#number = 0;
    this.#change(this.#initial);
  }

  #change(value: T): void {
    this.#value = value;
    for (const listener of [...this.#listeners]) this.#tell(listener);
  }

  #tell(listener: (value: T) => unknown): void {
    try {
      listener(this.#value);
    } catch (error) {
      this.#publisher.failed(this.source, error);
    }
  }
}
