import { Queue } from '../queue';
import { CallError } from './call_error';
import type { Unit } from './unit';
import { decodeValue } from './value';

/** Items that a stream may have waiting in the page. */
export const CREDIT = 16;

/** What a stream asks of its call. */
export interface StreamCall {
  /** Allows `count` further items. May throw `OutboxFull`. */
  more(count: number): void;
  cancel(): void;
}

interface Taker {
  resolve(result: IteratorResult<unknown, unknown>): void;
  reject(error: unknown): void;
}

/**
 * The items of an answer. The server sends further ones only as the page takes them. To leave the
 * loop cancels the call.
 */
export class Stream implements AsyncIterableIterator<unknown, unknown> {
  readonly #items = new Queue<Unit>();
  /** Calls of `next` that wait for an item. */
  readonly #takers = new Queue<Taker>();
  readonly #call: StreamCall;
  /** Set once there are no further items; called when those that wait have been taken. */
  #end: ((taker: Taker) => void) | undefined;
  /** Items taken since the server was last told. */
  #taken = 0;

  constructor(call: StreamCall) {
    this.#call = call;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<unknown, unknown>> {
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      this.#hand();
    });
  }

  async return(value?: unknown): Promise<IteratorResult<unknown, unknown>> {
    if (!this.#end) this.#call.cancel();
    while (this.#items.shift());
    this.#end = ({ resolve }) => resolve({ done: true, value: undefined });
    this.#hand();
    return { done: true, value };
  }

  /** Takes an item that has arrived. */
  push(item: Unit): void {
    if (this.#end) return;
    this.#items.push(item);
    this.#hand();
  }

  /** Ends the stream with the server's answer, or with an error. */
  finish(answer: unknown): void {
    this.#end ??= ({ resolve }) => resolve({ done: true, value: answer });
    this.#hand();
  }

  fail(error: unknown): void {
    this.#end ??= ({ reject }) => {
      reject(error);
      this.#end = ({ resolve }) => resolve({ done: true, value: undefined });
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

  #give({ resolve, reject }: Taker, { bytes, at }: Unit): void {
    this.#taken += 1;
    try {
      resolve({ done: false, value: decodeValue(bytes, at) });
    } catch (error) {
      reject(new CallError('answer-undecodable', (error as Error).message, { cause: error }));
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
