import { Lost } from './errors';
import type { OutboxLane } from './outbox';

/** Finds out whether the server lacks what was written last on a connection: no gap shows it, because nothing follows. */
export class Tail {
  readonly #lanes: readonly OutboxLane[];
  /** The newest ping, and the last sequences written before it. */
  #nonce = 0;
  #written: readonly number[] = [];
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
    this.#nonce = 0;
    this.#progressAt = now;
    this.#isSilent = false;
  }

  handlePing(nonce: number, now: number): void {
    this.#nonce = nonce;
    this.#written = this.#lanes.map((lane) => lane.written);
    this.#progressAt = now;
    this.#isSilent = true;
  }

  /** A frame has come, and its counts are taken in. */
  handleFrame(now: number): void {
    this.#isSilent = false;
    const acknowledged = this.#lanes.reduce((sum, lane) => sum + lane.acknowledged, 0);
    if (acknowledged === this.#acknowledged && this.#hasOutstanding) return;
    this.#acknowledged = acknowledged;
    this.#progressAt = now;
  }

  /** A pong has come, and its counts are taken in. */
  handlePong(nonce: number): void {
    if (nonce === this.#nonce && this.#lanes.some((lane, index) => lane.acknowledged < this.#written[index]!)) throw new Lost();
  }

  /** When to send a ping, if frames wait for their acknowledgement. Silence is another's concern. */
  deadline(heartbeat: number): number {
    return this.#hasOutstanding && !this.#isSilent ? this.#progressAt + heartbeat : Infinity;
  }

  get #hasOutstanding(): boolean {
    return this.#lanes.some((lane) => lane.acknowledged < lane.written);
  }
}
