// A page for the tests: the machine, a clock, and the decoded output of the machine.

import assert from 'node:assert/strict';

import { type Action, DocumentMachine, type Lane, type Limits, type MachineEvent } from '../src/machine';
import { decodeFrame, encodeFrame, type ModelFrame } from './wire_model';

export const SECRET = Uint8Array.from({ length: 32 }, (_, index) => index);
export const DOCUMENT = Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index);
export const LIMITS: Limits = { fragment: 100, message: 1000, inflated: 10_000, window: 2000, bulkWindow: 1000 };
export const HEARTBEAT = 15_000;
export const KEEP = 120_000;

/** An event's fields, whatever its type. */
export type Said = MachineEvent & Partial<Record<'code' | 'reason' | 'retryAt' | 'retryAfter' | 'unacknowledged' | 'nonce' | 'roundTrip', number>>
  & { text?: string; outcome?: string; class?: string };

export const hex = (text: string | Uint8Array): string => Buffer.from(text).toString('hex');
export const bytes = (size: number, fill = 1): Uint8Array => new Uint8Array(size).fill(fill);

export class Page {
  readonly machine: DocumentMachine;
  now = 1000;
  /** Value that `random` returns. */
  chance = 0.5;
  /** The connection of the newest connect action. */
  connection = 0;
  bulkAllowed = true;
  /** Output since the last call of `frames`, `actions` and `events`. */
  #frames: ModelFrame[] = [];
  #actions: Action[] = [];
  #events: Said[] = [];

  constructor({ limits = LIMITS, outbox, declines = false }: { limits?: Limits; outbox?: number; declines?: boolean } = {}) {
    const random = () => this.chance;
    this.machine = new DocumentMachine({ secret: SECRET, document: DOCUMENT, limits, random, declines: () => declines, ...(outbox ? { outbox } : {}) });
  }

  /** Returns a page whose first connection has been welcomed, with all output read. */
  static connected(options: { limits?: Limits; outbox?: number } = {}, welcome: Partial<ModelFrame> = {}): Page {
    const page = new Page(options);
    page.machine.start(page.now);
    page.open();
    page.receive(welcomeFrame({ ...(options.limits ? limitsOf(options.limits) : {}), ...welcome }));
    page.forget();
    return page;
  }

  /** Transmits frames and collects output, as a driver does. */
  pump(): this {
    for (;;) {
      const frame = this.machine.pollTransmit(this.connection, this.bulkAllowed, this.now);
      if (frame) {
        this.#frames.push(decodeFrame(frame, 'client'));
        continue;
      }
      const action = this.machine.pollAction();
      if (!action) break;
      if (action.type === 'connect') this.connection = action.connection;
      this.#actions.push(action);
    }
    for (let event; (event = this.machine.pollEvent()); ) this.#events.push(event);
    return this;
  }

  get frames(): ModelFrame[] {
    return this.pump().#frames.splice(0);
  }

  get actions(): Action[] {
    return this.pump().#actions.splice(0);
  }

  get events(): Said[] {
    return this.pump().#events.splice(0);
  }

  /** Returns the only frame, event or action since the last read. */
  get frame(): ModelFrame {
    return only(this.frames);
  }

  get event(): Said {
    return only(this.events);
  }

  get action(): Action {
    return only(this.actions);
  }

  forget(): this {
    this.pump();
    this.#frames = [];
    this.#actions = [];
    this.#events = [];
    return this;
  }

  open(): this {
    this.pump().machine.handleOpen(this.connection, this.now);
    return this.pump();
  }

  receive(...frames: ModelFrame[]): this {
    for (const frame of frames) this.machine.handleFrame(this.connection, encodeFrame(frame), this.now);
    return this.pump();
  }

  close(code = 1006): this {
    this.machine.handleClose(this.connection, code, this.now);
    return this.pump();
  }

  /** Loses the connection and starts to open another one. */
  lose(): this {
    this.close();
    return this.machine.phase === 'waiting' ? this.wait() : this;
  }

  /** Loses the connection, opens another one and receives a welcome with these counts. */
  resume(welcome: Partial<ModelFrame> = {}): this {
    return this.lose().open().receive(welcomeFrame(welcome));
  }

  send(payload: Uint8Array | string, lane: Lane = 0): this {
    this.machine.send(lane, typeof payload === 'string' ? Buffer.from(payload) : payload, this.now);
    return this;
  }

  take(lane: Lane = 0): string | undefined {
    const message = this.machine.take(lane);
    return message && Buffer.from(message.payload).toString();
  }

  release(lane: Lane = 0): this {
    this.machine.release(lane, this.now);
    return this;
  }

  /** Takes and releases all messages of a lane. */
  takeAll(lane: Lane = 0): string[] {
    const taken: string[] = [];
    for (let message; (message = this.take(lane)) !== undefined; this.release(lane)) taken.push(message);
    return taken;
  }

  /** Advances the time, handling every timeout on the way. */
  advance(duration: number): this {
    const end = this.now + duration;
    this.pump();
    for (let at; (at = this.machine.pollTimeout()) !== undefined && at <= end; this.pump()) {
      this.now = Math.max(this.now, at);
      this.machine.handleTimeout(this.now);
    }
    this.now = end;
    return this;
  }

  /** Advances the time to the next timeout. */
  wait(): this {
    return this.advance(this.machine.pollTimeout()! - this.now);
  }
}

function only<T>(items: T[]): T {
  assert.equal(items.length, 1, JSON.stringify(items));
  return items[0]!;
}

export const limitsOf = ({ bulkWindow, ...limits }: Limits) => ({ ...limits, bulk_window: bulkWindow });

export const welcomeFrame = (fields: Partial<ModelFrame> = {}): ModelFrame => ({
  type: 'welcome',
  incarnation: 1,
  epoch: 1,
  received: [0, 0],
  credit: [100_000, 100_000],
  heartbeat: HEARTBEAT,
  keep: KEEP,
  ...limitsOf(LIMITS),
  ...fields,
});

export const ack = (interactive: number, bulk = 0, credit: [number, number] = [100_000, 100_000]): ModelFrame => ({ type: 'ack', received: [interactive, bulk], credit });

export const data = (sequence: number, payload: Uint8Array | string = '', fields: Partial<ModelFrame> = {}): ModelFrame => ({
  type: 'data',
  lane: 0,
  more: false,
  compressed: false,
  sequence,
  payload: hex(payload),
  ...fields,
});

export const end = (code: number, reason = 0, fields: Partial<ModelFrame> = {}): ModelFrame => ({ type: 'end', code, reason, retry_after: 0, text: '', ...fields });
