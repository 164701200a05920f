import type { Environment } from '../environment';
import type { Session } from '../session';
import type { NewestValues } from './newest';
import { Observable, type Publisher } from './observable';
import type { Unit } from './unit';
import { decodeValue } from './value';

/** Number of names whose newest value is kept until the page creates their observables. */
const KEPT = 1024;

/** Milliseconds between two values of the server within which it probably has newer ones already. */
const BUSY = 500;

/** The observables of a session by name. */
export class Observables implements Publisher {
  readonly #raw: Session;
  readonly #newest: NewestValues;
  readonly #environment: Pick<Environment, 'performance'>;
  readonly #report: (source: string, error: unknown) => void;
  readonly #byName = new Map<string, Observable<never>>();
  /** Newest values of names without an observable: a component may create it later. */
  readonly #kept = new Map<string, Unit>();
  /** When the server's last value arrived. */
  #receivedAt = -Infinity;
  #isConfirming = false;

  constructor(raw: Session, newest: NewestValues, environment: Pick<Environment, 'performance'>, report: (source: string, error: unknown) => void) {
    this.#raw = raw;
    this.#newest = newest;
    this.#environment = environment;
    this.#report = report;
  }

  /** Returns the observable of a name; `initial` counts only for the first call. */
  get<T>(name: string, initial: T): Observable<T> {
    const existing = this.#byName.get(name);
    if (existing) return existing as unknown as Observable<T>;
    const observable = new Observable(name, initial, this);
    this.#byName.set(name, observable as unknown as Observable<never>);
    const kept = this.#kept.get(name);
    this.#kept.delete(name);
    try {
      if (kept) this.receive(kept);
    } catch (error) {
      this.failed(`observable ${name}`, error);
    }
    return observable;
  }

  /** Takes a set from the server. Throws `Undecodable`. */
  receive(set: Unit): void {
    const { name, number, bytes, at } = set;
    this.#confirm();
    const observable = this.#byName.get(name);
    if (observable) observable.receive(number, () => decodeValue(bytes, at));
    else if (this.#kept.size < KEPT || this.#kept.has(name)) this.#kept.set(name, set);
  }

  /**
   * While values come one after another, pings the server, because a ping says what the page has
   * received. The server sends the next value when it knows that, and the page would otherwise tell
   * it 200 ms later.
   */
  #confirm(): void {
    const now = this.#environment.performance.now();
    const isBusy = now - this.#receivedAt < BUSY;
    this.#receivedAt = now;
    if (!isBusy || this.#isConfirming || this.#raw.status.state !== 'connected') return;
    this.#isConfirming = true;
    const over = (): void => void (this.#isConfirming = false);
    this.#raw.ping().then(over, over);
  }

  publish(observable: Observable<never>): void {
    this.#newest.publish(observable);
  }

  failed(source: string, error: unknown): void {
    this.#report(source, error);
  }

  /** Begins anew with a new session. */
  reset(): void {
    this.#kept.clear();
    for (const observable of this.#byName.values()) observable.reset();
  }
}
