import { unexpected } from './errors';
import type { Lanes } from './lanes';
import type { Pings } from './pings';
import { Tail } from './tail';
import { type Bytes, type ServerFrame, Type } from './wire';

/** Maximum silence in milliseconds after a ping, and after two heartbeats without a frame. */
const PATIENCE = 5000;

/** A connection on which the server has welcomed the document. */
export class Connected {
  readonly phase = 'connected';
  readonly connection: number;
  /** Time of the last frame. */
  heardAt: number;
  /** Deadline for a frame after a probe. */
  probedUntil: number | undefined;
  /** Detects the loss of the last frames written. */
  readonly tail: Tail;
  readonly #heartbeat: number;
  readonly #lanes: Lanes;
  readonly #pings: Pings;
  /** Nonce of the newest ping to answer. */
  #pongDue: number | undefined;

  constructor(connection: number, heartbeat: number, lanes: Lanes, pings: Pings, now: number) {
    this.connection = connection;
    this.heardAt = now;
    this.tail = new Tail(lanes.outboxes);
    this.#heartbeat = heartbeat;
    this.#lanes = lanes;
    this.#pings = pings;
  }

  /** Handles any frame but `end`; returns true if it brought new data. */
  handleFrame(frame: ServerFrame, now: number): boolean {
    let isNew = false;
    if (frame.type === Type.Data) isNew = this.#lanes.handleData(frame, now);
    else if ('received' in frame && frame.type !== Type.Welcome) {
      if (frame.type === Type.Ping) this.#pongDue = frame.nonce;
      this.#lanes.handleCounts(frame);
      if (frame.type === Type.Pong) this.tail.handlePong(frame.nonce);
    } else unexpected();
    this.tail.handleFrame(now);
    return isNew;
  }

  /** Sends a ping and sets a deadline for the next frame. */
  probe(now: number): void {
    this.#pings.ask();
    this.probedUntil = now + PATIENCE;
  }

  /**
   * Sends a ping after silence, or to check that the last frames arrived. Returns false if the
   * connection has been silent for too long.
   */
  handleTimeout(now: number): boolean {
    if (this.probedUntil !== undefined) return false;
    if (now >= this.#suspectAt) this.probe(now);
    else this.#pings.ask();
    return true;
  }

  /** Returns the next frame to write. */
  pollTransmit(bulkAllowed: boolean, now: number): Bytes | undefined {
    const nonce = this.#pongDue;
    this.#pongDue = undefined;
    if (nonce !== undefined) return this.#lanes.pollCounts(Type.Pong, [nonce]);
    if (!this.#pings.isDue) return this.#lanes.pollTransmit(bulkAllowed, now);
    const asked = this.#pings.write(now);
    this.tail.ask(asked, now);
    return this.#lanes.pollCounts(Type.Ping, [asked]);
  }

  /** Returns when `handleTimeout` is due if no frame arrives. */
  pollTimeout(): number {
    const askAt = this.#pings.isDue ? Infinity : this.tail.deadline(this.#heartbeat);
    return this.probedUntil ?? Math.min(this.#suspectAt, askAt);
  }

  get #suspectAt(): number {
    return this.heardAt + 2 * this.#heartbeat + PATIENCE;
  }
}
