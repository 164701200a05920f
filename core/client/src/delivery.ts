import type { Environment } from './environment';
import { complain } from './errors';
import { inflate } from './inflate';
import type { DocumentMachine } from './machine';
import { soon } from './soon';
import type { Bytes, Lane } from './wire';

/** Name of a lane. Each lane keeps its order; `interactive` messages are delivered first. */
export type LaneName = 'interactive' | 'bulk';

/**
 * Handles a message. `data.buffer` contains only this message. If the handler returns a promise,
 * the next message of the lane waits until it settles.
 */
export type MessageHandler = (data: Bytes, lane: LaneName) => unknown;

/** Time budget in milliseconds before delivery yields to the page: half a frame at 60 Hz. */
const SLICE = 8;

/** Delivers received messages to the application. */
export class Delivery {
  /** Maximum size of an inflated message in bytes. */
  inflated: number;
  readonly #machine: DocumentMachine;
  readonly #now: () => number;
  readonly #environment: Environment;
  /** Called in a separate task when delivery can continue. */
  readonly #resume: () => void;
  #handler: MessageHandler | null = null;
  #isResuming = false;
  #isStopped = false;

  constructor(machine: DocumentMachine, inflated: number, now: () => number, environment: Environment, resume: () => void) {
    this.#machine = machine;
    this.inflated = inflated;
    this.#now = now;
    this.#environment = environment;
    this.#resume = resume;
  }

  get handler(): MessageHandler | null {
    return this.#handler;
  }

  set handler(handler: MessageHandler | null) {
    this.#handler = handler;
    this.#resumeSoon();
  }

  /** Delivers waiting messages in the current task. Without a handler, they keep waiting. */
  deliver(): void {
    const end = this.#now() + SLICE;
    while (this.#deliverNext()) {
      if (this.#now() < end) continue;
      this.#resumeSoon();
      break;
    }
  }

  /** Stops delivery unless it restarts in the same task. */
  stop(): void {
    this.#isStopped = true;
  }

  start(): void {
    this.#isStopped = false;
    this.#resumeSoon();
  }

  #deliverNext(): boolean {
    return this.#deliverFrom(0) || this.#deliverFrom(1);
  }

  /**
   * Delivers one message of a lane. The machine returns the next one only after this one is
   * released.
   */
  #deliverFrom(lane: Lane): boolean {
    const handler = this.#handler;
    const message = handler && !this.#isStopped && this.#machine.take(lane);
    if (!message) return false;
    if (message.compressed) void this.#inflate(handler, lane, message.payload);
    else this.#hand(handler, lane, message.payload);
    return true;
  }

  async #inflate(handler: MessageHandler, lane: Lane, payload: Bytes): Promise<void> {
    const result = await inflate(payload, this.inflated, this.#environment);
    if (this.#isStopped) return;
    if (typeof result === 'number') this.#machine.failInflate(result, this.#now());
    else this.#hand(handler, lane, result);
    this.#resume();
  }

  #hand(handler: MessageHandler, lane: Lane, data: Bytes): void {
    let returned: unknown;
    try {
      returned = handler(data, lane ? 'bulk' : 'interactive');
    } catch (error) {
      complain(this.#environment, 'onmessage', error);
    }
    if (isPromise(returned)) {
      void this.#hold(lane, returned);
    } else {
      this.#machine.release(lane, this.#now());
    }
  }

  async #hold(lane: Lane, returned: PromiseLike<unknown>): Promise<void> {
    try {
      await returned;
    } catch (error) {
      complain(this.#environment, 'onmessage', error);
    }
    this.#machine.release(lane, this.#now());
    this.#resume();
  }

  #resumeSoon(): void {
    if (this.#isResuming) return;
    this.#isResuming = true;
    soon(this.#environment, () => {
      this.#isResuming = false;
      this.#resume();
    });
  }
}

export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}
