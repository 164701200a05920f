import type { Host } from './host';
import { Listeners } from './listeners';
import type { Newest, NewestValues } from './newest';
import { Kind, type Unit } from './unit';

/**
 * A value that the page and the server set and watch. The newest wins; values that are replaced
 * before they are sent are never sent. It fits Svelte's contract for stores.
 */
export class Observable<T> implements Newest {
  readonly name: string;
  readonly label: string;
  readonly #host: Host;
  readonly #newest: NewestValues;
  readonly #initial: T;
  readonly #listeners: Listeners<(value: T) => unknown>;
  #value: T;
  /** Number of this document's newest set. */
  #number = 0;

  /** Use `AppSession.observable`. */
  constructor(name: string, initial: T, host: Host, newest: NewestValues) {
    this.name = name;
    this.label = `observable ${name}`;
    this.#initial = initial;
    this.#host = host;
    this.#newest = newest;
    this.#value = initial;
    this.#listeners = new Listeners(host);
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
    this.#newest.publish(this);
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }

  /** Calls `listener` now and after each change, until the returned function is called. */
  subscribe(listener: (value: T) => unknown): () => void {
    const remove = this.#listeners.add('', listener);
    this.#host.run(this.label, () => listener(this.#value));
    return remove;
  }

  /** Sends the newest set. Internal. */
  sendNewest(): void {
    this.#host.put(Kind.Set, { name: this.name, number: this.#number }, this.#value);
  }

  /** Takes a set from the server. Throws `Undecodable`. Internal. */
  receive(set: Unit): void {
    // If the server has not seen this document's newest set, that is on its way, and will be the
    // newer one at the server too.
    if (set.number === this.#number) this.#change(this.#host.formats.decode(set) as T);
  }

  /** Begins anew with a new session. Internal. */
  reset(): void {
    this.#number = 0;
    this.#change(this.#initial);
  }

  #change(value: T): void {
    this.#value = value;
    this.#listeners.tell(this.label, '', value);
  }
}
