const BASE = 500;
const GROWTH = 1.2;
/** Maximum wait in milliseconds for a visible page. */
const CAP = 3000;

/** Exponential back-off with full jitter, in milliseconds. */
export class Backoff {
  /** Number of waits since the last success. At 0 the next attempt is made at once. */
  waits = 0;
  readonly #growth: number;

  constructor(growth = GROWTH) {
    this.#growth = growth;
  }

  next(random: () => number, cap = CAP): number {
    const waits = this.waits++;
    return waits && random() * Math.min(cap, BASE * this.#growth ** (waits - 1));
  }
}
