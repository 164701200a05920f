// Counts what happened to a stream of consecutive numbers. The server counts in the same way: see
// counts.rs.

/** Maximum number of skipped numbers kept, to tell a late number from a duplicate. */
const REMEMBERED = 10_000;

export class Counts {
  received = 0;
  missing = 0;
  doubled = 0;
  outOfOrder = 0;
  /** The next expected number; undefined until the stream's start is known. */
  next;
  #skipped = new Set();

  /** Expects `next` from now on and keeps the counts. */
  startAt(next) {
    this.next = next;
    this.#skipped.clear();
  }

  count(number) {
    if (this.next === undefined) return;
    this.received += 1;
    if (number >= this.next) {
      this.missing += number - this.next;
      for (let n = this.next; n < number && this.#skipped.size < REMEMBERED; n += 1) this.#skipped.add(n);
      this.next = number + 1;
    } else if (this.#skipped.delete(number)) {
      this.missing -= 1;
      this.outOfOrder += 1;
    } else {
      this.doubled += 1;
    }
  }
}
