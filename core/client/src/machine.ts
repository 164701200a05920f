import { Backoff } from './backoff';
import { classOf, Code, Reason } from './codes';
import { Connected } from './connected';
import { Loss, SessionOver, TooLarge, unexpected, Violation } from './errors';
import type { Message } from './inbox';
import { Lanes } from './lanes';
import type { Action, MachineEvent } from './machine_event';
import type { Attempt, Phase, State, Unconnected } from './phase';
import { Pings } from './pings';
import { Presence } from './presence';
import { type Bytes, decode, encode, type Lane, type Limits, type ServerFrame, Type } from './wire';

export { OutboxFull, SessionOver, TooLarge } from './errors';
export type { CodeClass } from './codes';
export type { Action, MachineEvent, Outcome } from './machine_event';
export type { Bytes, Lane, Limits, Message, Phase };

export interface MachineOptions {
  secret: Uint8Array;
  /** 16 random bytes, generated once per page. */
  document: Uint8Array;
  limits: Limits;
  /** Maximum charge of each lane's outbox. */
  outbox?: number | undefined;
  /** Returns numbers evenly distributed in [0, 1). */
  random: () => number;
  /** Returns true if this document declines a session that another document had. */
  declines?: () => boolean;
}

/**
 * Maximum time in milliseconds for each of three steps: the transport opens, the server answers
 * hello, the server answers confirm.
 */
const ANSWER_DEADLINE = 10_000;
/** Number of consecutive connections ended by a gap without progress that ends the session. */
const GAPS = 3;
/** Minimum wait in milliseconds after a code of class *later*. */
const LATER = 500;
/** If a connection ends within this many milliseconds of its last frame, the next attempt waits. */
const SHORT_LIFE = 1000;
/** Close code of a page that leaves on its own. */
const LEFT = 1000;

/**
 * One document's side of the protocol. Time, sockets and randomness come from the caller.
 *
 * After every input, poll frames for the connection in use, then actions and events, until there
 * are none. Send a `leave` before you perform its close. Times are in milliseconds, never go back,
 * and continue while the computer sleeps. Handle frames that have arrived before you call
 * `handleTimeout`.
 */
export class DocumentMachine {
  #state: State = { phase: 'idle', connection: 0, code: 0 };
  /** Number of this document within the session; 0 before the first welcome. */
  #incarnation = 0;
  #secret: Uint8Array;
  readonly #document: Uint8Array;
  readonly #random: () => number;
  readonly #declines: () => boolean;
  readonly #lanes: Lanes;
  readonly #backoff = new Backoff();
  readonly #pings = new Pings();
  readonly #presence = new Presence();
  readonly #actions: Action[] = [];
  readonly #events: MachineEvent[] = [];
  /** Number of attempts so far, which is also the number of the last connection. */
  #attempts = 0;
  /** Number of consecutive connections that a gap ended without progress. */
  #gaps = 0;

  constructor({ secret, document, limits, outbox, random, declines = () => false }: MachineOptions) {
    this.#secret = secret;
    this.#document = document;
    this.#random = random;
    this.#declines = declines;
    this.#lanes = new Lanes(limits, outbox);
  }

  get phase(): Phase {
    return this.#state.phase;
  }

  get incarnation(): number {
    return this.#incarnation;
  }

  start(now: number): void {
    if (this.phase === 'idle') this.#connect(now);
  }

  /** Waits for another ticket, as before the start. Messages sent meanwhile go to its session. */
  standBy(): void {
    this.#mark('idle');
  }

  /** Stops waiting for another ticket, because none will come. */
  giveUp(): void {
    this.#mark('over');
  }

  /**
   * Replaces the ticket of a document that no server has welcomed. Sent messages stay in the
   * outbox.
   */
  present(secret: Uint8Array, limits: Limits, now: number): void {
    if (this.#incarnation) throw new Error('it is too late for another ticket');
    this.#lanes.limits = limits;
    this.#secret = secret;
    this.#backoff.waits = 0;
    if (this.phase !== 'idle' && this.phase !== 'left') this.#connect(now);
  }

  /** Handles an opened connection: hello becomes due. */
  handleOpen(connection: number, now: number): void {
    const state = this.#state;
    if (connection === state.connection && state.phase === 'connecting') begin(state, 'hello', now);
  }

  /** Handles a received frame. Drops those of older connections. */
  handleFrame(connection: number, bytes: Bytes, now: number): void {
    if (connection !== this.#state.connection || 'code' in this.#state) return;
    try {
      this.#receive(decode(bytes), now);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const { code, message } = error;
      const isGap = code === Code.Gap;
      if (this.phase === 'connected' && !(error instanceof Loss || (isGap && ++this.#gaps < GAPS))) {
        this.#fail(isGap ? Code.Malformed : code, message);
      } else {
        this.#close(code);
        this.#retry(code, message, now);
      }
    }
  }

  /**
   * Handles a closed connection. `code` is its close code, or 1006 if it had none. A transport that
   * must not be used for a while passes that time as `wait`, which has the effect of a wait
   * requested by the server.
   */
  handleClose(connection: number, code: number, now: number, wait = 0): void {
    if (connection !== this.#state.connection) return;
    if ('code' in this.#state) this.#state.connection = 0;
    else if (wait) this.#retry(code, '', now, wait);
    else this.#judge(code, 0, 0, '', now);
  }

  /** Performs what is due at `pollTimeout`. */
  handleTimeout(now: number): void {
    if (now < this.#dueAt) return;
    const state = this.#state;
    if (state.phase === 'waiting') {
      if (now >= this.#presence.restAt) state.phase = 'resting';
      else this.#connect(now);
    } else if (state.phase !== 'connected' || !state.handleTimeout(now)) {
      this.#close(Code.Silent);
      this.#retry(Code.Silent, '', now);
    }
  }

  /** Handles a page that came online, became visible, or was shown again. */
  handleWake(now: number): void {
    const state = this.#state;
    switch (state.phase) {
      case 'connected':
        // A probe that expired while the page slept proves nothing.
        if (!(state.probedUntil! > now)) state.probe(now);
        break;
      case 'waiting':
      case 'resting':
        if (state.isLater && now < state.deadline) state.phase = 'waiting';
        else this.#connect(now);
        break;
      case 'left':
        this.#connect(now);
    }
  }

  /** Connects now, even if the server requested a wait. */
  handleRetry(now: number): void {
    if ('isLater' in this.#state) this.#state.isLater = false;
    this.handleWake(now);
  }

  /** Handles a page that was hidden or shown. */
  handleHidden(hidden: boolean, now: number): void {
    if (this.#presence.handleHidden(hidden, now) && this.phase !== 'left') this.handleWake(now);
  }

  /** Handles a page that goes away. The machine stays idle until `handleWake`. */
  handleLeave(_now: number): void {
    if (!('code' in this.#state)) this.#leave('left', LEFT);
  }

  /**
   * Copies the message into the lane's outbox, or throws `OutboxFull`, `TooLarge` or `SessionOver`.
   */
  send(lane: Lane, payload: Uint8Array, _now: number): void {
    if (this.phase === 'over') throw new SessionOver();
    const { length } = payload;
    const limit = this.#lanes.limits.message;
    if (length > limit) throw new TooLarge(`A message of ${length} bytes is above the session's limit of ${limit}: send it in parts, or raise the limit.`);
    this.#lanes.admit(lane, payload);
  }

  /** Returns the lane's next message. Release it before you take another one from this lane. */
  take(lane: Lane): Message | undefined {
    return this.#lanes.inboxes[lane].take();
  }

  /** Releases the message that was taken, and the credit withheld for it. */
  release(lane: Lane, now: number): void {
    this.#lanes.release(lane, now);
  }

  /**
   * Ends the session because a message that was taken cannot be inflated; `code` is Malformed or
   * TooLarge.
   */
  failInflate(code: number, _now: number): void {
    if (this.phase !== 'over') this.#fail(code, 'message cannot be inflated');
  }

  /**
   * Requests a ping on the connection in use; returns the nonce of its `pong` event. Pings of a
   * lost connection get no event.
   */
  ping(_now: number): number {
    return this.#pings.ask();
  }

  /**
   * Returns the next frame to write on a connection. Set `bulkAllowed` while the transport buffers
   * little.
   */
  pollTransmit(connection: number, bulkAllowed: boolean, now: number): Bytes | undefined {
    const state = this.#state;
    if (!connection || connection !== state.connection) return;
    if ('code' in state) {
      this.#close(state.code);
      state.connection = 0;
      return encode(Type.Leave);
    }
    if (state.phase === 'connected') return state.pollTransmit(bulkAllowed, now);
    return 'isDue' in state && state.isDue ? this.#introduce(state, now) : undefined;
  }

  /** Returns the next instruction to the transport. */
  pollAction(): Action | undefined {
    return this.#actions.shift();
  }

  /** Returns the next event. */
  pollEvent(): MachineEvent | undefined {
    return this.#events.shift();
  }

  /** Returns when to call `handleTimeout` and then `pollTransmit`. */
  pollTimeout(): number | undefined {
    const at = Math.min(this.#dueAt, this.phase === 'connected' ? this.#lanes.ackAt : Infinity);
    return at < Infinity ? at : undefined;
  }

  /** Returns the charge of the lane's outbox. */
  bufferedCharge(lane: Lane): number {
    return this.#lanes.outboxes[lane].charge;
  }

  /** Returns the charge of the lane's inbox: incomplete, waiting and taken messages. */
  inboxCharge(lane: Lane): number {
    return this.#lanes.inboxes[lane].charge;
  }

  /** Returns the number of messages that the server has not acknowledged. */
  unacknowledgedMessages(): number {
    return this.#lanes.unacknowledged;
  }

  #connect(now: number): void {
    this.#close();
    this.#pings.forget();
    const connection = ++this.#attempts;
    this.#state = { phase: 'connecting', connection, isDue: false, deadline: now + ANSWER_DEADLINE };
    this.#actions.push({ type: 'connect', connection });
  }

  #introduce(state: Attempt, now: number): Bytes {
    state.isDue = false;
    state.deadline = now + ANSWER_DEADLINE;
    if (state.phase === 'offered') return encode(Type.Confirm);
    return this.#lanes.pollCounts(Type.Hello, [this.#incarnation, state.connection], [...this.#secret, ...this.#document]);
  }

  #receive(frame: ServerFrame, now: number): void {
    const state = this.#state;
    if (state.phase === 'connected') {
      state.heardAt = now;
      state.probedUntil = undefined;
    }
    if (frame.type === Type.End) {
      this.#close();
      this.#judge(frame.code, frame.reason, frame.retryAfter, frame.text, now);
    } else if (state.phase === 'connected') {
      this.#backoff.waits = 0;
      if (frame.type === Type.Pong) {
        for (const pong of this.#pings.settle(frame.nonce, now)) this.#events.push({ type: 'pong', ...pong });
      }
      if (state.handleFrame(frame, now)) this.#gaps = 0;
    } else {
      if (!('isDue' in state) || state.isDue || state.phase === 'connecting') unexpected();
      if (frame.type === Type.Welcome) this.#welcome(frame, now);
      else if (frame.type === Type.Offer && state.phase === 'hello' && !this.#incarnation) this.#consider(state, now);
      else unexpected();
    }
  }

  #welcome(frame: ServerFrame & { type: Type.Welcome }, now: number): void {
    const { incarnation, limits } = frame;
    const before = this.#incarnation;
    const lanes = this.#lanes;
    // Violations end the session from here on, even one in the welcome itself.
    const state = (this.#state = new Connected(this.#state.connection, frame.heartbeat, lanes, this.#pings, now));
    const isKnown = before ? incarnation === before : incarnation;
    if (!isKnown || Object.entries(limits).some(([key, limit]) => limit !== lanes.limits[key as keyof Limits])) {
      throw new Violation(Code.Malformed, 'false welcome');
    }
    lanes.handleCounts(frame);
    lanes.rewind();
    state.tail.restart(now);
    this.#incarnation = incarnation;
    this.#presence.keep = frame.keep;
    this.#backoff.waits = 1;
    this.#events.push({ type: 'welcomed', outcome: before ? 'resumed' : incarnation > 1 ? 'restored' : 'opened', incarnation });
  }

  /** Confirms or declines the offer of a session that another document had. */
  #consider(state: Attempt, now: number): void {
    if (SLIM || !this.#declines()) return begin(state, 'offered', now);
    this.#close();
    this.#judge(Code.Duplicate, 0, 0, '', now);
  }

  /** When `handleTimeout` is due for anything but an acknowledgement. */
  get #dueAt(): number {
    const state = this.#state;
    if (state.phase === 'connected') return state.pollTimeout();
    if (state.phase === 'waiting') return Math.min(state.deadline, this.#presence.restAt);
    return 'isDue' in state ? state.deadline : Infinity;
  }

  /** Closes the connection in use, if any. The caller enters another phase. */
  #close(code = LEFT): void {
    const { connection } = this.#state;
    if (connection) this.#actions.push({ type: 'close', connection, code });
  }

  /** Enters a phase without a connection. Closes a welcomed connection only after `leave`. */
  #leave(phase: Unconnected['phase'], code: number): void {
    const isWelcomed = this.phase === 'connected';
    if (!isWelcomed) this.#close(code);
    this.#state = { phase, connection: isWelcomed ? this.#state.connection : 0, code };
  }

  #mark(phase: Unconnected['phase']): void {
    if ('code' in this.#state) this.#state.phase = phase;
  }

  /** Acts on the server's reason for closing the connection. */
  #judge(code: number, reason: number, retryAfter: number, text: string, now: number): void {
    const kind = classOf(code);
    if (!reason && kind !== 'never') return this.#retry(code, text, now, kind === 'later' ? Math.max(retryAfter, LATER) : 0);
    this.#state = { phase: 'over', connection: 0, code };
    if (reason) this.#end(code, reason, retryAfter, text);
    else this.#events.push({ type: 'refused', code, class: kind, text, retryAt: undefined });
  }

  /** Ends the session because the server violated the protocol. */
  #fail(code: number, text: string): void {
    this.#leave('over', code);
    this.#end(code, code - Code.Malformed + Reason.Malformed, 0, text);
  }

  #end(code: number, reason: number, retryAfter: number, text: string): void {
    this.#events.push({ type: 'ended', code, reason, retryAfter, text, unacknowledged: this.unacknowledgedMessages() });
  }

  /** Schedules the next attempt, no earlier than in `later` milliseconds. */
  #retry(code: number, text: string, now: number, later = 0): void {
    const state = this.#state;
    if (state.phase === 'connected') {
      this.#presence.lostAt = now;
      // Without this, connections that end right after their welcome would follow without pause.
      if (now - state.heardAt >= SHORT_LIFE) this.#backoff.waits = 0;
    }
    const delay = Math.max(later, this.#backoff.next(this.#random, this.#presence.backoffCap));
    const deadline = now + delay;
    // Even a page that was hidden for a long time makes an attempt that is due immediately.
    const isResting = now >= this.#presence.restAt && this.#backoff.waits > 1;
    this.#state = { phase: isResting ? 'resting' : 'waiting', connection: 0, deadline, isLater: later > 0 };
    const retryAt = isResting ? undefined : deadline;
    this.#events.push(later ? { type: 'refused', code, class: 'later', text, retryAt } : { type: 'disconnected', code, text, retryAt });
    if (!delay && !isResting) this.#connect(now);
  }
}

/** Begins a phase in which the document writes a frame and expects an answer. */
function begin(state: Attempt, phase: 'hello' | 'offered', now: number): void {
  state.phase = phase;
  state.isDue = true;
  state.deadline = now + ANSWER_DEADLINE;
}
