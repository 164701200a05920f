/** A FIFO queue with constant-time operations. (`Array.shift` moves all remaining items.) */
export class Queue<T extends object> {
  #items: (T | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** Returns the item at `index`, counted from the front. */
  at(index: number): T | undefined {
    return this.#items[this.#head + index];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    const item = this.at(0);
    if (item) {
      this.#items[this.#head++] = undefined;
      // Moves the shorter part.
      if (this.#head * 2 > this.#items.length) {
        this.#items.splice(0, this.#head);
        this.#head = 0;
      }
    }
    return item;
  }
}
