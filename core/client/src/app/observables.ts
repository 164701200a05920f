import type { Host } from './host';
import { NewestValues } from './newest';
import { Observable } from './observable';
import type { Part, Piece } from './piece';
import { Kind, type Unit } from './unit';

/** Number of names whose newest value is kept until the page creates their observables. */
const KEPT = 1024;

/** Milliseconds between two values of the server within which it probably has newer ones already. */
const BUSY = 500;

/** Values that both sides set and watch: `observable`. */
export const observables: Piece<'observable'> = (host) => new Observables(host);

/** The observables of a session by name. */
class Observables implements Part {
  readonly accepted = [Kind.Set];
  readonly methods = { observable: (name: string, initial: unknown) => this.#get(name, initial) };
  readonly #host: Host;
  readonly #newest: NewestValues;
  readonly #byName = new Map<string, Observable<unknown>>();
  /** Newest values of names without an observable: a component may create it later. */
  readonly #kept = new Map<string, Unit>();
  /** When the server's last value arrived. */
  #receivedAt = -Infinity;
  #isConfirming = false;

  constructor(host: Host) {
    this.#host = host;
    this.#newest = new NewestValues(host);
  }

  receive(set: Unit): void {
    const { name } = set;
    this.#confirm();
    const observable = this.#byName.get(name);
    if (observable) observable.receive(set);
    else if (this.#kept.size < KEPT || this.#kept.has(name)) this.#kept.set(name, set);
  }

  reset(isOver: boolean): void {
    this.#newest.drop();
    if (isOver) return;
    this.#kept.clear();
    for (const observable of this.#byName.values()) observable.reset();
  }

  flush(): void {
    this.#newest.flush();
  }

  /** Returns the observable of a name; `initial` counts only for the first call. */
  #get(name: string, initial: unknown): Observable<unknown> {
    const existing = this.#byName.get(name);
    if (existing) return existing;
    const observable = new Observable(name, initial, this.#host, this.#newest);
    this.#byName.set(name, observable);
    const kept = this.#kept.get(name);
    this.#kept.delete(name);
    if (kept) this.#host.run(observable.label, () => this.receive(kept));
    return observable;
  }

  /**
   * While values come one after another, pings the server, because a ping says what the page has
   * received. The server sends the next value when it knows that, and the page would otherwise tell
   * it 200 ms later.
   */
  #confirm(): void {
    const { raw, environment } = this.#host;
    const now = environment.performance.now();
    const isBusy = now - this.#receivedAt < BUSY;
    this.#receivedAt = now;
    if (!isBusy || this.#isConfirming || raw.status.state !== 'connected') return;
    this.#isConfirming = true;
    const over = (): void => void (this.#isConfirming = false);
    raw.ping().then(over, over);
  }
}
