import type { Environment } from '../environment';
import type { Session } from '../session';
import { Observable, type Publisher } from './observable';
import type { Outgoing } from './outgoing';
import { Kind, type Unit } from './unit';
import { decodeValue } from './value';

/** Number of names whose newest value is kept until the page creates their observables. */
const KEPT = 1024;

/** Milliseconds until the server is asked again what it has received. */
const PAUSE = 50;

/** Milliseconds between two values of the server within which it probably has newer ones already. */
const BUSY = 500;

/** The observables of a session by name. Of each, one value at a time is on its way. */
export class Observables implements Publisher {
  readonly #raw: Session;
  readonly #outgoing: Outgoing;
  readonly #environment: Pick<Environment, 'setTimeout' | 'performance'>;
  readonly #report: (source: string, error: unknown) => void;
  readonly #byName = new Map<string, Observable<never>>();
  /** Newest values of names without an observable: a component may create it later. */
  readonly #kept = new Map<string, Unit>();
  /** Observables with a value that was not sent. */
  readonly #unsent = new Set<Observable<never>>();
  /** Where in the outbox the last value of each was put. */
  readonly #positions = new Map<Observable<never>, number>();
  #isAsking = false;
  /** When the server's last value arrived. */
  #receivedAt = -Infinity;
  #isConfirming = false;

  constructor(raw: Session, outgoing: Outgoing, environment: Pick<Environment, 'setTimeout' | 'performance'>, report: (source: string, error: unknown) => void) {
    this.#raw = raw;
    this.#outgoing = outgoing;
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
    this.#unsent.add(observable);
    this.#trySend(observable);
    this.#ask();
  }

  failed(source: string, error: unknown): void {
    this.#report(source, error);
  }

  /** Sends what can be sent, after a change of the session's status. */
  flush(): void {
    for (const observable of this.#unsent) this.#trySend(observable);
    this.#ask();
  }

  /** Begins anew with a new session. */
  reset(): void {
    this.#unsent.clear();
    this.#positions.clear();
    this.#kept.clear();
    for (const observable of this.#byName.values()) observable.reset();
  }

  /** Drops what was not sent. */
  end(): void {
    this.#unsent.clear();
  }

  #trySend(observable: Observable<never>): void {
    const { name, number, value } = observable;
    const isOnItsWay = (this.#positions.get(observable) ?? -1) > this.#outgoing.acknowledged;
    if (this.#raw.status.state !== 'connected' || isOnItsWay) return;
    try {
      this.#outgoing.value(Kind.Set, { name, number }, value);
      this.#positions.set(observable, this.#outgoing.position);
      this.#unsent.delete(observable);
    } catch (error) {
      if ((error as Error).name === 'OutboxFull') return;
      this.#unsent.delete(observable);
      if ((error as Error).name !== 'SessionOver') this.failed(`observable ${name}`, error);
    }
  }

  /**
   * While values wait, pings the server: its pong tells at once how far the values on their way
   * have come.
   */
  #ask(): void {
    if (this.#isAsking || !this.#unsent.size || this.#raw.status.state !== 'connected') return;
    this.#isAsking = true;
    const again = (): void => {
      this.#isAsking = false;
      const before = this.#unsent.size;
      for (const observable of this.#unsent) this.#trySend(observable);
      if (before > this.#unsent.size) this.#ask();
      else if (this.#unsent.size) this.#environment.setTimeout(() => this.#ask(), PAUSE);
    };
    this.#raw.ping().then(again, () => void (this.#isAsking = false));
  }
}
