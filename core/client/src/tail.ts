import { Loss } from './errors';
import type { OutboxLane } from './outbox';

/**
 * Detects the loss of the last frames written on a connection, which no gap shows because nothing
 * follows them.
 */
export class Tail {
  readonly #lanes: readonly OutboxLane[];
  /** Nonce of the oldest unanswered ping, and the last sequences written before it. */
  #asked: { readonly nonce: number; readonly written: readonly number[] } | undefined;
  /** Nonce of the newest ping. */
  #newest = 0;
  /** Number of frames acknowledged on both lanes. */
  #acknowledged = 0;
  /** When that number last rose, everything was acknowledged, or a ping was written. */
  #progressAt = 0;
  /** True if no frame has arrived since the newest ping. */
  #isSilent = false;

  constructor(lanes: readonly OutboxLane[]) {
    this.#lanes = lanes;
  }

  /** Resets the state for a connection on which nothing has been written. */
  restart(now: number): void {
    this.#asked = undefined;
    this.#acknowledged = this.#sum;
    this.#progressAt = now;
    this.#isSilent = false;
  }

  /** Records that a ping is being written. */
  ask(nonce: number, now: number): void {
    // The oldest ping is kept, because a pong for a later one answers it too. If each ping replaced
    // it, it might never be answered.
    this.#asked ??= { nonce, written: this.#lanes.map((lane) => lane.written) };
    this.#newest = nonce;
    this.#progressAt = now;
    this.#isSilent = true;
  }

  /** Handles a frame whose counts have been handled. */
  handleFrame(now: number): void {
    this.#isSilent = false;
    const acknowledged = this.#sum;
    if (acknowledged === this.#acknowledged && this.#hasOutstanding) return;
    this.#acknowledged = acknowledged;
    this.#progressAt = now;
  }

  /**
   * Handles a pong whose counts have been handled; throws a `Loss` if the server lacks what was
   * written before its ping.
   */
  handlePong(nonce: number): void {
    const asked = this.#asked;
    if (!asked || nonce < asked.nonce || nonce > this.#newest) return;
    this.#asked = undefined;
    if (this.#lanes.some((lane, index) => lane.acknowledged < asked.written[index]!)) throw new Loss();
  }

  /**
   * Returns when to send a ping if frames wait for acknowledgement. `Connected` handles silence.
   */
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
