import { Loss } from './errors';
import type { OutboxLane } from './outbox';

/** Finds out whether the server lacks what was written last on a connection: no gap shows it, because nothing follows. */
export class Tail {
  readonly #lanes: readonly OutboxLane[];
  /** The nonce of the oldest ping without an answer, and the last sequences written before it. */
  #asked: { readonly nonce: number; readonly written: readonly number[] } | undefined;
  /** The nonce of the newest. */
  #newest = 0;
  /** Frames acknowledged on both lanes. */
  #acknowledged = 0;
  /** When that last rose, or nothing was without acknowledgement, or a ping was written. */
  #progressAt = 0;
  /** Nothing has come since that ping. */
  #isSilent = false;

  constructor(lanes: readonly OutboxLane[]) {
    this.#lanes = lanes;
  }

  /** A connection on which nothing has been written. */
  restart(now: number): void {
    this.#asked = undefined;
    this.#acknowledged = this.#sum;
    this.#progressAt = now;
    this.#isSilent = false;
  }

  /** A ping is being written. */
  ask(nonce: number, now: number): void {
    // What answers a later ping answers this one too. One that moved on with each ping might never be answered.
    this.#asked ??= { nonce, written: this.#lanes.map((lane) => lane.written) };
    this.#newest = nonce;
    this.#progressAt = now;
    this.#isSilent = true;
  }

  /** A frame has come, and its counts are taken in. */
  handleFrame(now: number): void {
    this.#isSilent = false;
    const acknowledged = this.#sum;
    if (acknowledged === this.#acknowledged && this.#hasOutstanding) return;
    this.#acknowledged = acknowledged;
    this.#progressAt = now;
  }

  /** A pong has come, and its counts are taken in. */
  handlePong(nonce: number): void {
    const asked = this.#asked;
    if (!asked || nonce < asked.nonce || nonce > this.#newest) return;
    this.#asked = undefined;
    if (this.#lanes.some((lane, index) => lane.acknowledged < asked.written[index]!)) throw new Loss();
  }

  /** When to send a ping, if frames wait for their acknowledgement. Silence is another's concern. */
  deadline(heartbeat: number): number {
    return this.#hasOutstanding && !this.#isSilent ? this.#progressAt + heartbeat : Infinity;
  }

  get #sum(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.acknowledged, 0);
  }

  get #hasOutstanding(): boolean {
    return this.#lanes.some((lane) => lane.acknowledged < lane.written);
  }
}
