/** Allows so many events in each minute. */
export class Rate {
  readonly #most: number;
  readonly #now: () => number;
  #since = -Infinity;
  #count = 0;

  /** `now` is a clock in milliseconds. */
  constructor(most: number, now: () => number) {
    this.#most = most;
    this.#now = now;
  }

  /** Returns true if one more is allowed now. */
  take(): boolean {
    const now = this.#now();
    if (now - this.#since >= 60_000) {
      this.#since = now;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count <= this.#most;
  }
}
