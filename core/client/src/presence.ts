/** Maximum back-off in milliseconds of a hidden page; it is otherwise a quarter of `keep`. */
const HIDDEN_CAP = 300_000;
/** Maximum back-off in milliseconds of a hidden page that does not know `keep`. */
const UNKNOWN_CAP = 10_000;

/** Tracks whether the page is visible, and slows the reconnects of a hidden page. */
export class Presence {
  /**
   * How long the server keeps the session without a connection; undefined before the first welcome.
   */
  keep: number | undefined;
  /** When the last welcomed connection was lost. */
  lostAt = 0;
  #hiddenAt: number | undefined;

  /** Returns true if the page was hidden and is visible again. */
  handleHidden(hidden: boolean, now: number): boolean {
    const isBack = !hidden && this.#hiddenAt !== undefined;
    this.#hiddenAt = hidden ? (this.#hiddenAt ?? now) : undefined;
    return isBack;
  }

  /** When a page that stays hidden and unconnected stops trying. */
  get restAt(): number {
    return this.keep !== undefined && this.#hiddenAt !== undefined ? Math.max(this.#hiddenAt, this.lostAt) + this.keep : Infinity;
  }

  /** Maximum wait between two attempts; undefined for the default. */
  get backoffCap(): number | undefined {
    if (this.#hiddenAt === undefined) return;
    return this.keep === undefined ? UNKNOWN_CAP : Math.min(this.keep / 4, HIDDEN_CAP);
  }
}
