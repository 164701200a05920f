import { InboxLane } from './inbox';
import { OutboxLane } from './outbox';
import { type Bytes, type Counts, encode, type Lane, type Limits, type ServerFrame, Type } from './wire';

const OUTBOX = 4 * 2 ** 20;
/** Interactive charge after which one bulk frame goes first, so that neither lane starves. */
const INTERACTIVE_RUN = 65_536;
/** Maximum time in milliseconds until received data is acknowledged. */
const ACK_DELAY = 200;
/**
 * Minimum time in milliseconds between two acknowledgements that are sent only because data is.
 * Each is a message of its own, which costs both ends as much as a short one of the application.
 */
const RIDE_PAUSE = 20;

/** The outboxes and inboxes of both lanes. */
export class Lanes {
  readonly outboxes = [new OutboxLane(0), new OutboxLane(1)] as const;
  readonly inboxes: readonly [InboxLane, InboxLane];
  #limits: Limits;
  /** Maximum charge of each outbox. */
  readonly #outbox: number;
  /** When an acknowledgement is due. */
  ackAt = Infinity;
  /** When an acknowledgement may be sent with data. */
  #rideAt = 0;
  #interactiveRun = 0;

  constructor(limits: Limits, outbox = OUTBOX) {
    this.#limits = limits;
    this.#outbox = outbox;
    this.inboxes = [new InboxLane(limits.window), new InboxLane(limits.bulkWindow)];
  }

  get limits(): Limits {
    return this.#limits;
  }

  /** Adopts the limits of another session, which gets the messages sent so far. */
  set limits(limits: Limits) {
    if (!SLIM && limits.fragment !== this.#limits.fragment) for (const lane of this.outboxes) lane.recut(limits.fragment);
    const [interactive, bulk] = this.inboxes;
    interactive.window = limits.window;
    bulk.window = limits.bulkWindow;
    this.#limits = limits;
  }

  /** Copies a message into the lane's outbox; throws `OutboxFull` if it does not fit. */
  admit(lane: Lane, payload: Uint8Array): void {
    this.outboxes[lane].admit(payload, this.#limits.fragment, this.#outbox);
  }

  release(lane: Lane, now: number): void {
    if (this.inboxes[lane].release()) this.#note(now);
  }

  /** Handles a data frame; returns false for a duplicate. */
  handleData({ flags, sequence, payload }: ServerFrame & { type: Type.Data }, now: number): boolean {
    const isNew = this.inboxes[(flags & 1) as Lane].accept(flags, sequence, payload, this.#limits);
    if (isNew) this.#note(now);
    return isNew;
  }

  handleCounts({ received, credit }: Counts): void {
    for (const lane of [0, 1] as const) this.outboxes[lane].acknowledge(received[lane], credit[lane]);
  }

  /** Encodes a frame that ends with our counts, and records them as reported. */
  pollCounts(type: number, numbers: readonly number[] = [], before?: readonly number[]): Bytes {
    const [interactive, bulk] = this.inboxes;
    interactive.tell();
    bulk.tell();
    this.ackAt = Infinity;
    return encode(type, [...numbers, interactive.received, bulk.received, interactive.credit, bulk.credit], [], before);
  }

  /** Returns the next acknowledgement or data frame: interactive first, without starving bulk. */
  pollTransmit(bulkAllowed: boolean, now: number): Bytes | undefined {
    const [interactive, bulk] = this.outboxes;
    const small = interactive.peek();
    const large = bulkAllowed ? bulk.peek() : undefined;
    const isRiding = now >= this.#rideAt && (small || large);
    if (this.ackAt < Infinity && (isRiding || now >= this.ackAt || this.inboxes[0].isDue || this.inboxes[1].isDue)) {
      this.#rideAt = now + RIDE_PAUSE;
      return this.pollCounts(Type.Ack);
    }
    if (large && (!small || this.#interactiveRun >= INTERACTIVE_RUN)) {
      this.#interactiveRun = 0;
      bulk.advance();
      return large.bytes;
    }
    if (!small) return;
    this.#interactiveRun += small.charge;
    interactive.advance();
    return small.bytes;
  }

  /** Prepares a new connection, on which all unacknowledged frames are sent again. */
  rewind(): void {
    for (const lane of this.outboxes) lane.rewind();
  }

  /** Number of messages that the server has not acknowledged. */
  get unacknowledged(): number {
    const [interactive, bulk] = this.outboxes;
    return interactive.messages + bulk.messages;
  }

  /** Schedules an acknowledgement. */
  #note(now: number): void {
    this.ackAt = Math.min(this.ackAt, now + ACK_DELAY);
  }
}
