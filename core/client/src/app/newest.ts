import type { Host } from './host';

/** Something of which only the newest value is sent. */
export interface Newest {
  /** What it is called in reports. */
  readonly label: string;
  /** Sends the value that it has now. */
  sendNewest(): void;
}

/** Milliseconds until the server is asked again what it has received. */
const PAUSE = 50;

/** Sends newest values. Of each, one value at a time is on its way. */
export class NewestValues {
  readonly #host: Host;
  /** Those with a value that was not sent. */
  readonly #unsent = new Set<Newest>();
  /** Where in the outbox the last value of each was put. */
  readonly #positions = new Map<Newest, number>();
  #isAsking = false;

  constructor(host: Host) {
    this.#host = host;
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

  get #isConnected(): boolean {
    return this.#host.raw.status.state === 'connected';
  }

  #trySend(newest: Newest): void {
    const host = this.#host;
    if (!this.#isConnected || (this.#positions.get(newest) ?? -1) > host.acknowledged) return;
    try {
      newest.sendNewest();
      this.#positions.set(newest, host.position);
    } catch (error) {
      const { name } = error as Error;
      if (name === 'OutboxFull') return;
      if (name !== 'SessionOver') host.failed(newest.label, error);
    }
    this.#unsent.delete(newest);
  }

  /**
   * While values wait, pings the server: its pong tells at once how far the values on their way
   * have come.
   */
  #ask(): void {
    if (this.#isAsking || !this.#unsent.size || !this.#isConnected) return;
    this.#isAsking = true;
    const again = (): void => {
      this.#isAsking = false;
      const before = this.#unsent.size;
      for (const newest of this.#unsent) this.#trySend(newest);
      if (before > this.#unsent.size) this.#ask();
      else if (this.#unsent.size) this.#host.environment.setTimeout(() => this.#ask(), PAUSE);
    };
    this.#host.raw.ping().then(again, () => void (this.#isAsking = false));
  }
}
