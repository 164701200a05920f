/** Pings of the connection in use without an answer. */
export class Pings {
  /** One is to be written, which stands for all that were asked for. */
  isDue = false;
  #nonce = 0;
  /** `at` is when one was written that stands for it. */
  #waiting: { readonly nonce: number; at?: number }[] = [];

  /** Gives the nonce of the answer. */
  ask(): number {
    this.#waiting.push({ nonce: ++this.#nonce });
    this.isDue = true;
    return this.#nonce;
  }

  /** One is being written, with this nonce. */
  write(now: number): number {
    this.isDue = false;
    for (const ping of this.#waiting) ping.at ??= now;
    return this.#nonce;
  }

  /** The server answers only the newest of several, so a pong settles all before it; gives them with their round trips. */
  settle(nonce: number, now: number): { nonce: number; roundTrip: number }[] {
    const count = this.#waiting.findIndex((ping) => ping.nonce === nonce) + 1;
    return this.#waiting.splice(0, count).map(({ nonce, at = now }) => ({ nonce, roundTrip: now - at }));
  }

  /** Another connection is in use. */
  forget(): void {
    this.#waiting = [];
    this.isDue = false;
  }
}
