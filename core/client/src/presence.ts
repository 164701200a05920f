/** Upper bound on a quarter of `keep`, which may be unlimited. */
const HIDDEN_CAP = 300_000;
/** Where `keep` is not known. */
const UNKNOWN_CAP = 10_000;

/** Whether the page is seen, and what follows where it is not and has no connection. */
export class Presence {
  /** How long the server keeps the session without a connection; unknown before the first welcome. */
  keep: number | undefined;
  /** When the connection was lost. */
  lostAt = 0;
  #hiddenAt: number | undefined;

  /** True if the page came back. */
  handleHidden(hidden: boolean, now: number): boolean {
    const isBack = !hidden && this.#hiddenAt !== undefined;
    this.#hiddenAt = hidden ? (this.#hiddenAt ?? now) : undefined;
    return isBack;
  }

  /** When a page stays hidden and without a connection too long to go on. */
  get restAt(): number {
    return this.keep !== undefined && this.#hiddenAt !== undefined ? Math.max(this.#hiddenAt, this.lostAt) + this.keep : Infinity;
  }

  /** The longest wait of a page that is not seen. */
  get backoffCap(): number | undefined {
    if (this.#hiddenAt === undefined) return;
    return this.keep === undefined ? UNKNOWN_CAP : Math.min(this.keep / 4, HIDDEN_CAP);
  }
}
