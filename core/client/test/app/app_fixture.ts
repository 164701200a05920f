// An AppSession on a fake page, and the server's end of it, unit by unit.

import { AppSession, type AppOptions } from '../../src/app/app_session';
import { decodeText, decodeUnit, encodeHead, encodeText, type Fields, Kind } from '../../src/app/unit';
import type { Piece } from '../../src/app/piece';
import { withContent } from '../../src/app/value';
import { join } from '../../src/bytes';
import { type Bytes, encode, Flag, Type } from '../../src/wire';
import type { PageOptions } from '../fake_page';
import { accept, encodeData, encodeEnd, LIMITS, readNumbers } from '../fake_server';
import { Fixture } from '../session_fixture';
import { decodeValue, encodeValue, EVERY_PIECE } from './every_piece';

/** A unit that the page sent; its value is decoded. */
export interface Sent {
  kind: Kind;
  id: number;
  name: string;
  room: string;
  action: number;
  code: number;
  credit: number;
  number: number;
  count: number;
  /** First byte of the content. */
  format: number | undefined;
  value: unknown;
}

export class App {
  readonly base: Fixture;
  readonly session: AppSession;
  /** Units that the page has sent and the test has not read. */
  #sent: Sent[] = [];
  #received = 0;
  #partial: Bytes = new Uint8Array();
  #sequence = 0;
  /** Pings that wait for their pong. */
  #pings: Bytes[] = [];

  constructor(options: AppOptions = {}, page: PageOptions = {}, pieces: readonly Piece[] = EVERY_PIECE) {
    this.base = new Fixture(page, { onmessage: null, onstatus: null } as never);
    this.session = new AppSession(this.base.session, options, this.base.page, pieces);
  }

  static async connected(options: AppOptions = {}, pieces?: readonly Piece[]): Promise<App> {
    const app = new App(options, {}, pieces);
    await app.base.settle();
    await app.accept();
    return app;
  }

  get errors(): string[] {
    return this.base.page.errors;
  }

  /** Accepts the page's connection, and resumes an earlier one. */
  async accept(): Promise<void> {
    accept(this.base.page.socket, { received: [this.#received, 0], limits: LIMITS });
    await this.base.settle();
  }

  /** Loses the connection and waits for the next attempt. */
  async cut(): Promise<void> {
    const { page } = this.base;
    const before = page.sockets.length;
    page.socket.lose();
    this.#pings = [];
    await this.base.settle();
    for (let tries = 0; page.sockets.length === before && tries < 100; tries++) await this.base.advance(100);
  }

  /** Reads the page's frames: acknowledges its units and answers its pings if `acknowledge`. */
  async read(acknowledge = true): Promise<Sent[]> {
    const { socket } = this.base.page;
    const frames = socket.read();
    for (const frame of frames) {
      if (frame[0] === Type.Data || frame[0] === Type.Data + Flag.More) this.#take(frame);
    }
    this.#pings.push(...frames.filter((frame) => frame[0] === Type.Ping));
    if (acknowledge) {
      const counts = [this.#received, 0, 1_000_000, 1_000_000];
      socket.receive(encode(Type.Ack, counts));
      for (const ping of this.#pings.splice(0)) socket.receive(encode(Type.Pong, [readNumbers(ping.subarray(1))[0]!, ...counts]));
      await this.base.settle();
    }
    return this.#sent.splice(0);
  }

  #take(frame: Bytes): void {
    const [sequence] = readNumbers(frame.subarray(1));
    if (sequence !== this.#received + 1) return;
    this.#received += 1;
    this.#partial = join([this.#partial, frame.subarray(1 + (sequence > 16_383 ? 3 : sequence > 127 ? 2 : 1))]);
    if (frame[0] !== Type.Data) return;
    this.#sent.push(described(this.#partial));
    this.#partial = new Uint8Array();
  }

  /** Sends a unit to the page. */
  give(kind: Kind, fields: Fields = {}, value?: unknown): Promise<void> {
    const head = encodeHead(kind, fields);
    const isText = kind === Kind.Failure || kind === Kind.Text;
    return this.giveBytes(isText ? withContent(head, encodeText(String(value ?? ''))) : value === undefined ? new Uint8Array(head) : encodeValue(head, value, 'json'));
  }

  giveBytes(unit: Uint8Array): Promise<void> {
    this.base.page.socket.receive(encodeData(++this.#sequence, unit));
    return this.base.settle();
  }

  async end(): Promise<void> {
    this.base.page.socket.receive(encodeEnd(1000, 1, 0, 'done'));
    await this.base.advance(1);
  }
}

/** Decodes a unit of the page, which the page's own decoder refuses if it is an error. */
function described(bytes: Bytes): Sent {
  const isError = bytes[0] === Kind.Error;
  const unit = decodeUnit(isError ? bytes.slice().fill(Kind.Message, 0, 1) : bytes);
  const { id, name, room, action, code, credit, number, count, at } = unit;
  const kind = isError ? Kind.Error : unit.kind;
  const isText = kind === Kind.Text || kind === Kind.Failure;
  const value = isText ? decodeText(bytes, at) : kind === Kind.Bytes ? bytes.slice(at) : decodeValue(bytes, at);
  return { kind, id, name, room, action, code, credit, number, count, format: bytes[at], value };
}
