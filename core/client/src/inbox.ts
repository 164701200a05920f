import { join } from './bytes';
import { Code } from './codes';
import { Violation } from './errors';
import { Queue } from './queue';
import { type Bytes, Flag, FRAME_CHARGE, type Limits } from './wire';

interface Incoming {
  parts: Bytes[];
  /** Number of payload bytes. */
  size: number;
  compressed: boolean;
  /** Charge of its frames; `held` is the part of it withheld from the peer's credit. */
  charge: number;
  held: number;
}

export interface Message {
  /** Owns its buffer unless it is compressed. */
  payload: Bytes;
  /** True if the payload is a zlib stream. */
  compressed: boolean;
}

const nothing = (): Incoming => ({ parts: [], size: 0, compressed: false, charge: 0, held: 0 });

/**
 * Received messages of one lane: incomplete, waiting, and the one that the application has taken.
 */
export class InboxLane {
  /** Highest accepted sequence. The peer may forget everything up to it. */
  received = 0;
  /** Charge of everything stored here. */
  charge = 0;
  /** Charge that the peer may send at the start. */
  window: number;
  readonly #waiting = new Queue<Incoming>();
  #partial = nothing();
  #inHand: Incoming | undefined;
  #accepted = 0;
  #held = 0;
  /** Credit last reported to the peer, and the accepted charge at that time. */
  #toldCredit = 0;
  #toldAccepted = 0;

  constructor(window: number) {
    this.window = window;
  }

  /** Charge that the peer may send since the incarnation began. */
  get credit(): number {
    return this.window + this.#accepted - this.#held;
  }

  /** True if the counts have changed enough to be reported now. */
  get isDue(): boolean {
    return Math.max(this.#accepted - this.#toldAccepted, this.credit - this.#toldCredit) * 4 >= this.window;
  }

  /** Records that the counts are being reported to the peer. */
  tell(): void {
    this.#toldCredit = this.credit;
    this.#toldAccepted = this.#accepted;
  }

  /**
   * Handles a data frame; returns false for a duplicate. Throws a `Violation`, whose code is Gap
   * for a skipped sequence.
   */
  accept(flags: number, sequence: number, payload: Bytes, limits: Limits): boolean {
    if (sequence <= this.received) return false;
    if (sequence > this.received + 1) throw new Violation(Code.Gap, 'gap');

    const size = payload.length;
    const charge = size + FRAME_CHARGE;
    const more = flags & Flag.More;
    const compressed = !!(flags & Flag.Compressed);
    const partial = this.#partial;
    const { parts } = partial;
    if (size > limits.fragment || partial.size + size > limits.message) throw new Violation(Code.TooLarge, 'message is too large');
    if ((more && size < limits.fragment) || (parts.length && (!size || compressed !== partial.compressed))) {
      throw new Violation(Code.Malformed, 'bad fragment');
    }
    if (this.#accepted + charge > this.#toldCredit) throw new Violation(Code.Flood, 'beyond the credit');

    this.received = sequence;
    this.charge += charge;
    this.#accepted += charge;
    partial.compressed = compressed;
    partial.size += size;
    partial.charge += charge;
    parts.push(payload);
    if (!more || this.#inHand || this.#waiting.length) {
      this.#held += charge;
      partial.held += charge;
    }
    if (!more) {
      this.#waiting.push(partial);
      this.#partial = nothing();
    }
    return true;
  }

  /** Returns the next message, once the previous one has been released. */
  take(): Message | undefined {
    const message = this.#inHand ? undefined : this.#waiting.shift();
    if (!message) return;
    this.#inHand = message;
    const { parts, compressed } = message;
    // The payload is copied because most typed arrays must start at a multiple of their element
    // size, and it may start anywhere in its frame.
    const payload = compressed && !parts[1] ? parts[0]! : join(parts);
    // The application owns the payload now.
    message.parts = [];
    return { payload, compressed };
  }

  /** Releases the message that the application took; returns false if it had none. */
  release(): boolean {
    const message = this.#inHand;
    if (!message) return false;
    this.#inHand = undefined;
    this.charge -= message.charge;
    this.#held -= message.held;
    if (!this.#waiting.length) {
      this.#held -= this.#partial.held;
      this.#partial.held = 0;
    }
    return true;
  }
}
