/** Pings of the current connection and their round trips. */
export class Pings {
  /** True if a ping must be written. One ping serves all requests so far. */
  isDue = false;
  #nonce = 0;
  /** Unanswered requests; `at` is when the ping that serves each one was written. */
  #waiting: { readonly nonce: number; at?: number }[] = [];

  /** Requests a ping and returns the nonce of its answer. */
  ask(): number {
    this.#waiting.push({ nonce: ++this.#nonce });
    this.isDue = true;
    return this.#nonce;
  }

  /** Returns the nonce of the ping that is being written. */
  write(now: number): number {
    this.isDue = false;
    for (const ping of this.#waiting) ping.at ??= now;
    return this.#nonce;
  }

  /**
   * Removes the answered pings and returns them with their round trips. A pong answers all earlier
   * pings too.
   */
  settle(nonce: number, now: number): { nonce: number; roundTrip: number }[] {
    const count = this.#waiting.findIndex((ping) => ping.nonce === nonce) + 1;
    return this.#waiting.splice(0, count).map(({ nonce, at = now }) => ({ nonce, roundTrip: now - at }));
  }

  /** Forgets the pings of a connection that is no longer in use. */
  forget(): void {
    this.#waiting = [];
    this.isDue = false;
  }
}
