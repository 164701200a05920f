import { join } from './bytes';
import { Code } from './codes';
import { OutboxFull, Violation } from './errors';
import { Queue } from './queue';
import { type Bytes, encode, Flag, FRAME_CHARGE, type Lane, Type } from './wire';

interface Outgoing {
  bytes: Bytes;
  /** True for the last fragment of a message. */
  last: boolean;
  charge: number;
  /** Charge of all frames of the lane up to this one. */
  total: number;
}

/** Data frames of one lane, encoded on admission and kept until they are acknowledged. */
export class OutboxLane {
  /** Number of messages that are not fully acknowledged. */
  messages = 0;
  readonly #lane: Lane;
  #frames = new Queue<Outgoing>();
  /** Sequences: acknowledged by the peer, to be sent next, and highest sent in this incarnation. */
  #acknowledged = 0;
  #next = 1;
  #sent = 0;
  /** Charges since the incarnation began: acknowledged, admitted, and granted by the peer. */
  #released = 0;
  #admitted = 0;
  #credit = 0;

  constructor(lane: Lane) {
    this.#lane = lane;
  }

  /** Charge of the unacknowledged frames. */
  get charge(): number {
    return this.#admitted - this.#released;
  }

  /** Last sequence that the peer has received. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Last sequence sent on the current connection or acknowledged before it. */
  get written(): number {
    return this.#next - 1;
  }

  /**
   * Copies a message and splits it into frames. Throws `OutboxFull` if it does not fit, unless the
   * lane is empty.
   */
  admit(payload: Uint8Array, fragment: number, limit: number): void {
    const { length } = payload;
    const frames = Math.ceil(length / fragment) || 1;
    if (this.#frames.length && this.charge + length + frames * FRAME_CHARGE > limit) {
      throw new OutboxFull(`${this.charge} bytes wait: the network or the server is slow. Wait until bufferedAmount() falls, or drop the message.`);
    }
    for (let index = 0; index < frames; index++) {
      const part = payload.subarray(index * fragment, (index + 1) * fragment);
      const last = index === frames - 1;
      const type = Type.Data + this.#lane + (last ? 0 : Flag.More);
      const bytes = encode(type, [this.#acknowledged + this.#frames.length + 1], part);
      const charge = part.length + FRAME_CHARGE;
      this.#frames.push({ bytes, last, charge, total: (this.#admitted += charge) });
    }
    this.messages++;
  }

  /** Splits all messages again, for a peer that has received none of them. */
  recut(fragment: number): void {
    const frames = this.#frames;
    this.#frames = new Queue();
    this.messages = this.#admitted = 0;
    let parts: Bytes[] = [];
    for (let frame; (frame = frames.shift()); ) {
      const { bytes, last, charge } = frame;
      parts.push(bytes.subarray(bytes.length + FRAME_CHARGE - charge));
      if (!last) continue;
      this.admit(join(parts), fragment, Infinity);
      parts = [];
    }
  }

  /** Returns the frame to send next, if the peer's credit allows it. */
  peek(): Outgoing | undefined {
    const frame = this.#frames.at(this.#next - this.#acknowledged - 1);
    return frame && frame.total <= this.#credit ? frame : undefined;
  }

  /** Moves on after the frame from `peek` was handed to the transport. */
  advance(): void {
    this.#sent = Math.max(this.#sent, this.#next++);
  }

  /** Handles the peer's counts. */
  acknowledge(received: number, credit: number): void {
    if (received < this.#acknowledged || received > this.#sent) throw new Violation(Code.Malformed, 'false acknowledgement');
    if (credit < this.#credit) throw new Violation(Code.Malformed, 'falling credit');
    this.#credit = credit;
    while (this.#acknowledged < received) {
      const frame = this.#frames.shift()!;
      this.#acknowledged++;
      this.#released = frame.total;
      if (frame.last) this.messages--;
    }
    this.#next = Math.max(this.#next, received + 1);
  }

  /** Prepares a new connection, on which all unacknowledged frames are sent again. */
  rewind(): void {
    this.#next = this.#acknowledged + 1;
  }
}
