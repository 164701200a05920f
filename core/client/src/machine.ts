import { Backoff } from './backoff';
import { classOf, Code, Reason } from './codes';
import { Loss, SessionOver, TooLarge, Violation } from './errors';
import { InboxLane, type Message } from './inbox';
import type { Action, MachineEvent, Phase } from './machine_event';
import { OutboxLane } from './outbox';
import { Pings } from './pings';
import { Presence } from './presence';
import { Tail } from './tail';
import { type Bytes, type Counts, decode, encode, type Lane, type Limits, type ServerFrame, Type } from './wire';

export { OutboxFull, SessionOver, TooLarge } from './errors';
export type { CodeClass } from './codes';
export type { Action, MachineEvent, Outcome, Phase } from './machine_event';
export type { Bytes, Lane, Limits, Message };

export interface MachineOptions {
  secret: Uint8Array;
  /** 16 random bytes, drawn once for the life of the page. */
  document: Uint8Array;
  limits: Limits;
  /** Most charge of a lane's outbox. */
  outbox?: number;
  /** Evenly distributed in [0, 1). */
  random: () => number;
  /** Whether a session that another document had is none for this one. */
  declines?: () => boolean;
}

const OUTBOX = 4 * 2 ** 20;
/** Interactive charge after which one bulk frame is due. */
const INTERACTIVE_RUN = 65_536;
/** For the transport to open, for the answer to hello, for the answer to confirm. */
const DEADLINE = 10_000;
const ACK_DELAY = 200;
/** Silence after a ping, and beyond two heartbeats, that is too long. */
const PATIENCE = 5000;
const GAPS = 3;
/** A code of class *later* is obeyed for at least so long. */
const LATER = 500;
/** A connection that was welcomed and then silent for less than this is not replaced at once. */
const SHORT_LIFE = 1000;
const LEFT = 1000;

/**
 * One document's half of the protocol, without timers, sockets or chance of its own.
 *
 * After every input, poll: frames for the connection in use, then actions and events, until there are none; a `leave` must be transmitted before
 * its close appears among the actions. Times are in milliseconds, never go back, and go on while the machine sleeps. Frames that have
 * arrived are to be handled before `handleTimeout`.
 */
export class DocumentMachine {
  #phase: Phase = 'idle';
  /** The incarnation this document was welcomed as; 0 before. */
  #incarnation = 0;
  #secret: Uint8Array;
  readonly #document: Uint8Array;
  #limits: Limits;
  readonly #outbox: number;
  readonly #random: () => number;
  readonly #declines: () => boolean;
  readonly #backoff = new Backoff();
  readonly #outboxes = [new OutboxLane(0), new OutboxLane(1)] as const;
  readonly #inboxes: readonly [InboxLane, InboxLane];
  readonly #tail = new Tail(this.#outboxes);
  readonly #pings = new Pings();
  readonly #presence = new Presence();
  readonly #actions: Action[] = [];
  readonly #events: MachineEvent[] = [];

  #attempt = 0;
  /** The attempt whose connection is in use, or 0. */
  #connection = 0;
  /** Hello or confirm is to be written. */
  #isDue = false;
  /** The connection is closed with this code once `leave` is written. */
  #leaving = 0;
  /** Phases connecting, hello, offered: give the connection up. Phase waiting: connect. */
  #deadline = 0;
  /** The server named the deadline of phase waiting. */
  #isLater = false;

  #heartbeat = 0;
  #heardAt = 0;
  /** When the silence after a probe has lasted too long. */
  #probedUntil: number | undefined;
  #ackAt: number | undefined;
  #interactiveRun = 0;
  #gaps = 0;
  /** Nonce of the server's newest ping. */
  #pongDue: number | undefined;

  constructor({ secret, document, limits, outbox = OUTBOX, random, declines = () => false }: MachineOptions) {
    this.#secret = secret;
    this.#document = document;
    this.#limits = limits;
    this.#outbox = outbox;
    this.#random = random;
    this.#declines = declines;
    this.#inboxes = [new InboxLane(limits.window), new InboxLane(limits.bulkWindow)];
  }

  get phase(): Phase {
    return this.#phase;
  }

  get incarnation(): number {
    return this.#incarnation;
  }

  /** The most bytes of a message. */
  get messageLimit(): number {
    return this.#limits.message;
  }

  start(now: number): void {
    if (this.#phase === 'idle') this.#connect(now);
  }

  /** Waits as before the start: another ticket is to come, and what is sent is for its session. */
  standBy(): void {
    this.#phase = 'idle';
  }

  /** There is to be no other ticket. */
  giveUp(): void {
    this.#phase = 'over';
  }

  /** Another ticket in place of the one so far, while no server has welcomed this document; what was sent stays in the outbox. */
  present(secret: Uint8Array, limits: Limits, now: number): void {
    if (this.#incarnation) throw new Error('too late for another ticket');
    if (limits.fragment !== this.#limits.fragment) for (const lane of this.#outboxes) lane.recut(limits.fragment);
    this.#secret = secret;
    this.#limits = limits;
    const [interactive, bulk] = this.#inboxes;
    interactive.window = limits.window;
    bulk.window = limits.bulkWindow;
    this.#backoff.waits = 0;
    if (this.#phase !== 'idle' && this.#phase !== 'left') this.#connect(now);
  }

  handleOpen(connection: number, now: number): void {
    if (connection === this.#connection && this.#phase === 'connecting') this.#expect('hello', now);
  }

  handleFrame(connection: number, bytes: Bytes, now: number): void {
    if (connection !== this.#connection || this.#leaving) return;
    try {
      this.#receive(decode(bytes), now);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const { code, message } = error;
      const isGap = code === Code.Gap;
      if (this.#phase === 'connected' && !(error instanceof Loss || (isGap && ++this.#gaps < GAPS))) {
        this.#fail(isGap ? Code.Malformed : code, message);
      } else {
        this.#drop(code);
        this.#retry(code, message, now);
      }
    }
  }

  /**
   * `code` is the one the transport closed with, 1006 when nothing better is known. `wait`: what carries the connections wants to be left alone
   * for so long, as if the server had said so with a code of class *later*.
   */
  handleClose(connection: number, code: number, now: number, wait = 0): void {
    if (connection !== this.#connection) return;
    this.#connection = 0;
    if (this.#leaving) return;
    if (wait) this.#retry(code, '', now, wait);
    else this.#judge(code, 0, 0, '', now);
  }

  handleTimeout(now: number): void {
    if (now < this.#dueAt) return;
    if (this.#phase === 'waiting') {
      if (now >= this.#presence.restAt) this.#phase = 'resting';
      else this.#connect(now);
    } else if (this.#phase !== 'connected' || this.#probedUntil !== undefined) this.#lose(now);
    else if (now >= this.#suspectAt) this.#probe(now);
    else this.ping(now);
  }

  /** The page woke: `online`, visible or `pageshow`. */
  handleWake(now: number): void {
    switch (this.#phase) {
      case 'connected':
        // A probe that ran out while the page slept says nothing.
        if (!(this.#probedUntil! > now)) this.#probe(now);
        break;
      case 'waiting':
      case 'resting':
        if (this.#isLater && now < this.#deadline) this.#phase = 'waiting';
        else this.#connect(now);
        break;
      case 'left':
        this.#connect(now);
    }
  }

  /** Somebody wants a connection now, whatever was said about waiting. */
  handleRetry(now: number): void {
    this.#isLater = false;
    this.handleWake(now);
  }

  handleHidden(hidden: boolean, now: number): void {
    if (this.#presence.handleHidden(hidden, now) && this.#phase !== 'left') this.handleWake(now);
  }

  /** The page is going away; nothing more happens until `handleWake`. */
  handleLeave(_now: number): void {
    if (this.#phase === 'idle' || this.#phase === 'left' || this.#phase === 'over') return;
    this.#leave(LEFT);
    this.#phase = 'left';
  }

  /** Copies the message into the lane's outbox, or throws `OutboxFull`, `TooLarge` or `SessionOver`. */
  send(lane: Lane, payload: Uint8Array, _now: number): void {
    if (this.#phase === 'over') throw new SessionOver();
    const { fragment, message } = this.#limits;
    if (payload.length > message) throw new TooLarge();
    this.#outboxes[lane].admit(payload, fragment, this.#outbox);
  }

  /** The lane's next message; one at a time is in hand, until `release`. */
  take(lane: Lane): Message | undefined {
    return this.#inboxes[lane].take();
  }

  /** The handler of the message in hand has returned: its credit goes back. */
  release(lane: Lane, now: number): void {
    if (this.#inboxes[lane].release()) this.#ackAt ??= now + ACK_DELAY;
  }

  /** What was taken cannot be inflated: `code` is Malformed or TooLarge, and the session is over. */
  failInflate(code: number, _now: number): void {
    if (this.#phase !== 'over') this.#fail(code, 'message cannot be inflated');
  }

  /** Pings on the connection in use, or in the making, and is forgotten with it; the `pong` event carries the nonce returned here. */
  ping(_now: number): number {
    return this.#pings.ask();
  }

  /** The next frame for the connection; the credit of the counts in it is taken as told. */
  pollTransmit(connection: number, bulkAllowed: boolean, now: number): Bytes | undefined {
    if (!connection || connection !== this.#connection) return;
    if (this.#leaving) {
      this.#drop(this.#leaving);
      return encode(Type.Leave);
    }
    if (this.#phase !== 'connected') return this.#isDue ? this.#introduce(now) : undefined;

    if (this.#pongDue !== undefined) {
      const nonce = this.#pongDue;
      this.#pongDue = undefined;
      return this.#encodeCounts(Type.Pong, [nonce]);
    }
    if (this.#pings.isDue) {
      const nonce = this.#pings.write(now);
      this.#tail.ask(nonce, now);
      return this.#encodeCounts(Type.Ping, [nonce]);
    }
    const [interactive, bulk] = this.#outboxes;
    const small = interactive.peek();
    const large = bulkAllowed ? bulk.peek() : undefined;
    if (this.#ackAt !== undefined && (small || large || now >= this.#ackAt || this.#inboxes.some((lane) => lane.isDue))) {
      return this.#encodeCounts(Type.Ack);
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

  pollAction(): Action | undefined {
    return this.#actions.shift();
  }

  pollEvent(): MachineEvent | undefined {
    return this.#events.shift();
  }

  /** When `handleTimeout` is due, and then `pollTransmit`. */
  pollTimeout(): number | undefined {
    const at = Math.min(this.#dueAt, (this.#phase === 'connected' && this.#ackAt) || Infinity);
    return at < Infinity ? at : undefined;
  }

  /** Charge of what the lane's outbox holds. */
  bufferedCharge(lane: Lane): number {
    return this.#outboxes[lane].charge;
  }

  /** Charge of what the lane's inbox holds: half assembled, waiting and in hand. */
  inboxCharge(lane: Lane): number {
    return this.#inboxes[lane].charge;
  }

  unacknowledgedMessages(): number {
    const [interactive, bulk] = this.#outboxes;
    return interactive.messages + bulk.messages;
  }

  #connect(now: number): void {
    this.#drop();
    this.#pings.forget();
    this.#isDue = false;
    this.#phase = 'connecting';
    this.#deadline = now + DEADLINE;
    this.#connection = ++this.#attempt;
    this.#actions.push({ type: 'connect', connection: this.#connection });
  }

  /** Hello or confirm is due; the answer is waited for. */
  #expect(phase: 'hello' | 'offered', now: number): void {
    this.#phase = phase;
    this.#isDue = true;
    this.#deadline = now + DEADLINE;
  }

  #introduce(now: number): Bytes {
    this.#isDue = false;
    this.#deadline = now + DEADLINE;
    if (this.#phase === 'offered') return encode(Type.Confirm);
    return this.#encodeCounts(Type.Hello, [this.#incarnation, this.#connection], [...this.#secret, ...this.#document]);
  }

  #encodeCounts(type: number, numbers: readonly number[] = [], before?: readonly number[]): Bytes {
    const [interactive, bulk] = this.#inboxes;
    interactive.tell();
    bulk.tell();
    this.#ackAt = undefined;
    return encode(type, [...numbers, interactive.received, bulk.received, interactive.credit, bulk.credit], [], before);
  }

  #receive(frame: ServerFrame, now: number): void {
    this.#heardAt = now;
    this.#probedUntil = undefined;
    if (frame.type === Type.End) {
      this.#drop();
      return this.#judge(frame.code, frame.reason, frame.retryAfter, frame.text, now);
    }
    if (this.#phase !== 'connected') {
      const isAwaited = !this.#isDue && this.#phase !== 'connecting';
      if (isAwaited && frame.type === Type.Welcome) return this.#welcome(frame, now);
      if (isAwaited && frame.type === Type.Offer && this.#phase === 'hello' && !this.#incarnation) return this.#consider(now);
      return unexpected();
    }
    this.#backoff.waits = 0;
    switch (frame.type) {
      case Type.Data:
        if (this.#inboxes[(frame.flags & 1) as Lane].accept(frame.flags, frame.sequence, frame.payload, this.#limits)) {
          this.#gaps = 0;
          this.#ackAt ??= now + ACK_DELAY;
        }
        break;
      case Type.Ping:
        this.#pongDue = frame.nonce;
        this.#acknowledge(frame);
        break;
      case Type.Pong:
        for (const pong of this.#pings.settle(frame.nonce, now)) this.#events.push({ type: 'pong', ...pong });
        this.#acknowledge(frame);
        this.#tail.handlePong(frame.nonce);
        break;
      case Type.Ack:
        this.#acknowledge(frame);
        break;
      default:
        unexpected();
    }
    this.#tail.handleFrame(now);
  }

  #welcome(frame: ServerFrame & { type: Type.Welcome }, now: number): void {
    // The server has welcomed us: from here on its errors are final.
    this.#phase = 'connected';
    const { incarnation, limits } = frame;
    const before = this.#incarnation;
    const isKnown = before ? incarnation === before : incarnation;
    if (!isKnown || Object.entries(limits).some(([key, limit]) => limit !== this.#limits[key as keyof Limits])) {
      throw new Violation(Code.Malformed, 'false welcome');
    }
    this.#acknowledge(frame);
    for (const lane of this.#outboxes) lane.rewind();
    this.#tail.restart(now);
    this.#incarnation = incarnation;
    this.#heartbeat = frame.heartbeat;
    this.#presence.keep = frame.keep;
    this.#backoff.waits = 1;
    this.#pongDue = undefined;
    this.#events.push({ type: 'welcomed', outcome: before ? 'resumed' : incarnation > 1 ? 'restored' : 'opened', incarnation });
  }

  /** Another document had the session that is offered. */
  #consider(now: number): void {
    if (!this.#declines()) return this.#expect('offered', now);
    this.#drop();
    this.#judge(Code.Duplicate, 0, 0, '', now);
  }

  #acknowledge({ received, credit }: Counts): void {
    for (const lane of [0, 1] as const) this.#outboxes[lane].acknowledge(received[lane], credit[lane]);
  }

  #probe(now: number): void {
    this.ping(now);
    this.#probedUntil = now + PATIENCE;
  }

  /** When the phase's time is over. */
  get #dueAt(): number {
    if (this.#phase === 'waiting') return Math.min(this.#deadline, this.#presence.restAt);
    if (this.#phase === 'connected') {
      const askAt = this.#pings.isDue ? Infinity : this.#tail.deadline(this.#heartbeat);
      return this.#probedUntil ?? Math.min(this.#suspectAt, askAt);
    }
    return this.#connection && !this.#leaving ? this.#deadline : Infinity;
  }

  get #suspectAt(): number {
    return this.#heardAt + 2 * this.#heartbeat + PATIENCE;
  }

  /** The connection in use has been silent for too long. */
  #lose(now: number): void {
    this.#drop(Code.Silent);
    this.#retry(Code.Silent, '', now);
  }

  /** The connection in use, if any, is closed and no longer ours. */
  #drop(code = LEFT): void {
    if (this.#connection) this.#actions.push({ type: 'close', connection: this.#connection, code });
    this.#connection = this.#leaving = 0;
  }

  /** Closes, after `leave` where the server has welcomed us. */
  #leave(code: number): void {
    if (this.#phase === 'connected') this.#leaving = code;
    else this.#drop(code);
  }

  /** The server closed the connection, or said why it will. */
  #judge(code: number, reason: number, retryAfter: number, text: string, now: number): void {
    const kind = classOf(code);
    if (reason) this.#end(code, reason, retryAfter, text);
    else if (kind === 'never') {
      this.#phase = 'over';
      this.#events.push({ type: 'refused', code, class: kind, text, retryAt: undefined });
    } else this.#retry(code, text, now, kind === 'later' ? Math.max(retryAfter, LATER) : 0);
  }

  /** The server broke the protocol. */
  #fail(code: number, text: string): void {
    this.#leave(code);
    this.#end(code, code - Code.Malformed + Reason.Malformed, 0, text);
  }

  #end(code: number, reason: number, retryAfter: number, text: string): void {
    this.#phase = 'over';
    this.#events.push({ type: 'ended', code, reason, retryAfter, text, unacknowledged: this.unacknowledgedMessages() });
  }

  #retry(code: number, text: string, now: number, later = 0): void {
    if (this.#phase === 'connected') {
      this.#presence.lostAt = now;
      // Connections that end right after their welcome must not follow each other without a pause.
      if (now - this.#heardAt >= SHORT_LIFE) this.#backoff.waits = 0;
    }
    const delay = Math.max(later, this.#backoff.next(this.#random, this.#presence.backoffCap));
    this.#isLater = later > 0;
    this.#deadline = now + delay;
    // The attempt at once is made even by a page hidden for long.
    const isResting = now >= this.#presence.restAt && this.#backoff.waits > 1;
    this.#phase = isResting ? 'resting' : 'waiting';
    const retryAt = isResting ? undefined : this.#deadline;
    this.#events.push(later ? { type: 'refused', code, class: 'later', text, retryAt } : { type: 'disconnected', code, text, retryAt });
    if (!delay && !isResting) this.#connect(now);
  }
}

function unexpected(): never {
  throw new Violation(Code.Malformed, 'unexpected frame');
}
