import { Loss } from './errors';
import type { OutboxLane } from './outbox';

/** Detects the loss of what was written last on a connection. No gap shows it, because nothing follows. */
export class Tail {
  readonly #lanes: readonly OutboxLane[];
  /** Nonce of the oldest ping without an answer, and the last sequences written before it. */
  #asked: { readonly nonce: number; readonly written: readonly number[] } | undefined;
  /** Nonce of the newest ping. */
  #newest = 0;
  /** Number of frames acknowledged on both lanes. */
  #acknowledged = 0;
  /** When that number last rose, everything was acknowledged, or a ping was written. */
  #progressAt = 0;
  /** No frame has arrived since that ping. */
  #isSilent = false;

  constructor(lanes: readonly OutboxLane[]) {
    this.#lanes = lanes;
  }

  /** Starts anew for a connection on which nothing has been written. */
  restart(now: number): void {
    this.#asked = undefined;
    this.#acknowledged = this.#sum;
    this.#progressAt = now;
    this.#isSilent = false;
  }

  /** Notes that a ping is being written. */
  ask(nonce: number, now: number): void {
    // A pong for a later ping answers this one too. If this moved on with each ping, it might never
    // be answered.
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

  /** Handles a pong whose counts have been handled; throws a `Loss` if the server lacks what was written before its ping. */
  handlePong(nonce: number): void {
    const asked = this.#asked;
    if (!asked || nonce < asked.nonce || nonce > this.#newest) return;
    this.#asked = undefined;
    if (this.#lanes.some((lane, index) => lane.acknowledged < asked.written[index]!)) throw new Loss();
  }

  /** Returns when to send a ping, if frames wait for acknowledgement. `Connected` deals with silence. */
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
