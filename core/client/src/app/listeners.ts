import type { Host } from './host';

/** Functions of the application by name, each called until it is removed. */
export class Listeners<F extends (...values: never[]) => unknown> {
  readonly #host: Host;
  readonly #byName = new Map<string, Set<F>>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** Adds a listener, even one that is there already. Returns a function that removes it. */
  add(name: string, listener: F): () => void {
    const own = ((...values) => listener(...values)) as F;
    const listeners = this.#byName.get(name) ?? new Set();
    this.#byName.set(name, listeners.add(own));
    return () => void listeners.delete(own);
  }

  has(name: string): boolean {
    return !!this.#byName.get(name)?.size;
  }

  /** Calls the listeners of a name. What they throw is reported with the `source`. */
  tell(source: string, name: string, ...values: Parameters<F>): void {
    for (const listener of [...(this.#byName.get(name) ?? [])]) this.#host.run(source, () => listener(...values));
  }
}
