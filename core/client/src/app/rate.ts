import type { Environment } from '../environment';

/** Allows so many events in each minute. */
export class Rate {
  readonly #most: number;
  readonly #environment: Pick<Environment, 'performance'>;
  #since = -Infinity;
  #count = 0;

  constructor(most: number, environment: Pick<Environment, 'performance'>) {
    this.#most = most;
    this.#environment = environment;
  }

  /** Returns true if one more is allowed now. */
  take(): boolean {
    const now = this.#environment.performance.now();
    if (now - this.#since >= 60_000) {
      this.#since = now;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count <= this.#most;
  }
}
