import type { Environment } from '../environment';
import type { Session } from '../session';
import type { Outgoing } from './outgoing';

/** Something of which only the newest value is sent. */
export interface Newest {
  /** What it is called in reports. */
  readonly source: string;
  /** Sends the value that it has now. */
  put(outgoing: Outgoing): void;
}

/** Milliseconds until the server is asked again what it has received. */
const PAUSE = 50;

/** Sends newest values. Of each, one value at a time is on its way. */
export class NewestValues {
  readonly #raw: Session;
  readonly #outgoing: Outgoing;
  readonly #environment: Pick<Environment, 'setTimeout'>;
  readonly #report: (source: string, error: unknown) => void;
  /** Those with a value that was not sent. */
  readonly #unsent = new Set<Newest>();
  /** Where in the outbox the last value of each was put. */
  readonly #positions = new Map<Newest, number>();
  #isAsking = false;

  constructor(raw: Session, outgoing: Outgoing, environment: Pick<Environment, 'setTimeout'>, report: (source: string, error: unknown) => void) {
    this.#raw = raw;
    this.#outgoing = outgoing;
    this.#environment = environment;
    this.#report = report;
  }

  /** Sends the newest value now, or once the previous one has arrived. */
  publish(newest: Newest): void {
    this.#unsent.add(newest);
    this.#trySend(newest);
    this.#ask();
  }

  /** Sends what can be sent, after a change of the session's status. */
  flush(): void {
    for (const newest of this.#unsent) this.#trySend(newest);
    this.#ask();
  }

  /** Drops what was not sent. */
  drop(): void {
    this.#unsent.clear();
    this.#positions.clear();
  }

  #trySend(newest: Newest): void {
    const isOnItsWay = (this.#positions.get(newest) ?? -1) > this.#outgoing.acknowledged;
    if (this.#raw.status.state !== 'connected' || isOnItsWay) return;
    try {
      newest.put(this.#outgoing);
      this.#positions.set(newest, this.#outgoing.position);
      this.#unsent.delete(newest);
    } catch (error) {
      if ((error as Error).name === 'OutboxFull') return;
      this.#unsent.delete(newest);
      if ((error as Error).name !== 'SessionOver') this.#report(newest.source, error);
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
      for (const newest of this.#unsent) this.#trySend(newest);
      if (before > this.#unsent.size) this.#ask();
      else if (this.#unsent.size) this.#environment.setTimeout(() => this.#ask(), PAUSE);
    };
    this.#raw.ping().then(again, () => void (this.#isAsking = false));
  }
}
