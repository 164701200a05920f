import { Queue } from '../queue';
import { undecodable, type Waiting } from './calls';
import type { Host } from './host';
import type { Unit } from './unit';

/** Items that a stream may have waiting in the page. */
export const CREDIT = 16;

/** What a stream asks of its call. */
export interface StreamCall {
  /** Allows `count` further items. May throw `OutboxFull`. */
  more(count: number): void;
  stop(): void;
}

type Result = IteratorResult<unknown, unknown>;

interface Taker {
  resolve(result: Result): void;
  reject(error: unknown): void;
}

const over = ({ resolve }: Taker, value?: unknown): void => resolve({ done: true, value });

/**
 * The items of an answer. The server sends further ones only as the page takes them. To leave the
 * loop cancels the call.
 */
export class Stream implements AsyncIterableIterator<unknown, unknown>, Waiting {
  readonly #host: Host;
  readonly #call: StreamCall;
  readonly #items = new Queue<Unit>();
  /** Calls of `next` that wait for an item. */
  readonly #takers = new Queue<Taker>();
  /** Set once there are no further items; called when those that wait have been taken. */
  #end: ((taker: Taker) => void) | undefined;
  /** Items taken since the server was last told. */
  #taken = 0;

  constructor(host: Host, call: StreamCall) {
    this.#host = host;
    this.#call = call;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      this.#hand();
    });
  }

  async return(value?: unknown): Promise<Result> {
    if (!this.#end) this.#call.stop();
    while (this.#items.shift());
    this.#end = over;
    this.#hand();
    return { done: true, value };
  }

  /** Takes an item that has arrived. */
  push(item: Unit): void {
    if (this.#end) return;
    this.#items.push(item);
    this.#hand();
  }

  /** Ends the stream with the server's answer. */
  resolve(answer: unknown): void {
    this.#end ??= (taker) => over(taker, answer);
    this.#hand();
  }

  reject(error: unknown): void {
    this.#end ??= ({ reject }) => {
      reject(error);
      this.#end = over;
    };
    this.#hand();
  }

  #hand(): void {
    while (this.#takers.length && (this.#items.length || this.#end)) {
      const taker = this.#takers.shift()!;
      const item = this.#items.shift();
      if (item) this.#give(taker, item);
      else this.#end!(taker);
    }
  }

  #give({ resolve, reject }: Taker, item: Unit): void {
    this.#taken += 1;
    try {
      resolve({ done: false, value: this.#host.formats.decode(item) });
    } catch (error) {
      reject(undecodable(error));
    }
    if (this.#end || this.#taken * 2 < CREDIT) return;
    try {
      this.#call.more(this.#taken);
      this.#taken = 0;
    } catch {
      // The outbox is full: the next item tries again.
    }
  }
}
