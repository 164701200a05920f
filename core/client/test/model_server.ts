// The simplest model of the server side for one document that never reloads: lists, and an
// assertion for each rule that the client must follow.

import assert from 'node:assert/strict';

import type { Lane, Limits } from '../src/machine';
import { decodeFrame, encodeFrame, type ModelFrame } from './wire_model';

interface Frame {
  sequence: number;
  more: boolean;
  payload: string;
}

const chargeOf = (frame: { payload?: string }): number => frame.payload!.length / 2 + 64;
/** Charge of a message of maximum size. */
export const greatestCharge = ({ message, fragment }: Limits): number => message + 64 * Math.ceil(message / fragment);
const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);

class ModelLane {
  readonly sent: Frame[] = [];
  acknowledged = 0;
  next = 0;
  credit = 0;

  readonly accepted: Frame[] = [];
  /** Frames accepted so far whose message was taken. */
  taken = 0;
  /** Frames that arrived while a complete message waited. */
  readonly delayed = new Set<Frame>();
  readonly messages: string[] = [];

  constructor(readonly lane: Lane, readonly limits: Limits) {}

  get window(): number {
    return this.lane ? this.limits.bulkWindow : this.limits.window;
  }

  /** Frames of complete messages that were not taken. */
  get waiting(): Frame[] {
    let complete = this.accepted.length;
    while (complete && this.accepted[complete - 1]!.more) complete--;
    return this.accepted.slice(this.taken, complete);
  }

  get stored(): number {
    return sum(this.accepted.slice(this.taken).map(chargeOf));
  }

  get granted(): number {
    // Frames that were not delayed count from the time their message completes, and then only its
    // last frame.
    const held = this.accepted.slice(this.taken).filter((frame) => !frame.more || this.delayed.has(frame));
    return this.window + sum(this.accepted.map(chargeOf)) - sum(held.map(chargeOf));
  }

  send(payload: Buffer): void {
    const { fragment } = this.limits;
    const count = Math.max(1, Math.ceil(payload.length / fragment));
    for (let index = 0; index < count; index++) {
      const part = payload.subarray(index * fragment, (index + 1) * fragment);
      this.sent.push({ sequence: this.sent.length + 1, more: index < count - 1, payload: part.toString('hex') });
    }
  }

  take(): void {
    const waiting = this.waiting;
    if (!waiting.length) return;
    const message = waiting.slice(0, waiting.findIndex(({ more }) => !more) + 1);
    this.messages.push(message.map(({ payload }) => payload).join(''));
    this.taken += message.length;
    if (!this.waiting.length) this.delayed.clear();
  }

  accept(frame: Frame, told: number): void {
    if (frame.sequence <= this.accepted.length) return;
    assert.equal(frame.sequence, this.accepted.length + 1, 'the client must not leave a gap');
    assert.ok(sum(this.accepted.map(chargeOf)) + chargeOf(frame) <= told, 'the client must keep to its credit');
    if (frame.more) assert.equal(frame.payload.length / 2, this.limits.fragment);
    if (this.waiting.length) this.delayed.add(frame);
    this.accepted.push(frame);
    assert.ok(this.stored <= this.window + greatestCharge(this.limits), 'a lane holds at most a window and a message');
  }
}

export class ModelServer {
  readonly lanes: readonly [ModelLane, ModelLane];
  /** Frames for the connection in use. */
  output: Uint8Array<ArrayBuffer>[] = [];
  readonly #limits: Limits;
  #attached = false;
  #welcomedOnce = false;
  #attempt = 0;
  #epoch = 0;
  #told: [number, number] = [0, 0];

  constructor(limits: Limits) {
    this.#limits = limits;
    this.lanes = [new ModelLane(0, limits), new ModelLane(1, limits)];
  }

  lose(): void {
    this.#attached = false;
    this.output = [];
  }

  handle(bytes: Uint8Array): void {
    const frame = decodeFrame(bytes, 'client');
    if (frame.type === 'hello') {
      assert.ok(frame.attempt! > this.#attempt, 'attempts must grow');
      assert.equal(frame.incarnation, this.#welcomedOnce ? 1 : 0);
      this.#attempt = frame.attempt!;
      this.#attached = true;
      this.#count(frame);
      for (const lane of this.lanes) lane.next = lane.acknowledged;
      const { bulkWindow, ...limits } = this.#limits;
      this.#write({ type: 'welcome', incarnation: 1, epoch: ++this.#epoch, ...this.#counts(), heartbeat: 15_000, keep: 120_000, ...limits, bulk_window: bulkWindow });
      return;
    }
    assert.ok(this.#attached, 'nothing but hello comes first');
    if (frame.type === 'data') {
      const { sequence, more, payload, lane } = frame as Required<ModelFrame>;
      this.lanes[lane].accept({ sequence, more, payload }, this.#told[lane]);
      return;
    }
    this.#count(frame);
    if (frame.type === 'ping') this.#write({ type: 'pong', nonce: frame.nonce!, ...this.#counts() });
  }

  /** Notes that the client has seen a welcome, which its hellos must show from now on. */
  welcomed(): void {
    this.#welcomedOnce = true;
  }

  ping(nonce: number): void {
    if (this.#attached) this.#write({ type: 'ping', nonce, ...this.#counts() });
  }

  acknowledge(): void {
    if (this.#attached) this.#write({ type: 'ack', ...this.#counts() });
  }

  /** Sends what the client's credit allows, at most `most` frames a lane. */
  flush(most: number): void {
    if (!this.#attached) return;
    for (const lane of this.lanes) {
      for (let count = 0; count < most; count++) {
        const frame = lane.sent[lane.next];
        if (!frame || sum(lane.sent.slice(0, lane.next + 1).map(chargeOf)) > lane.credit) break;
        lane.next++;
        this.#write({ type: 'data', lane: lane.lane, compressed: false, ...frame });
      }
    }
  }

  #write(frame: ModelFrame): void {
    this.output.push(encodeFrame(frame));
  }

  #counts(): { received: [number, number]; credit: [number, number] } {
    const [interactive, bulk] = this.lanes;
    this.#told = [interactive.granted, bulk.granted];
    return { received: [interactive.accepted.length, bulk.accepted.length], credit: [...this.#told] };
  }

  #count(frame: ModelFrame): void {
    for (const lane of this.lanes) {
      const received = frame.received![lane.lane];
      const credit = frame.credit![lane.lane];
      assert.ok(received >= lane.acknowledged && received <= lane.sent.length, 'the client must not acknowledge falsely');
      assert.ok(credit >= lane.credit, 'the client must not lower its credit');
      lane.acknowledged = received;
      lane.next = Math.max(lane.next, received);
      lane.credit = credit;
    }
  }
}
