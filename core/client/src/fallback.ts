import { join } from './bytes';
import type { Environment } from './environment';
import type { Connection, ConnectionHandlers } from './kinds';
import { lock, type Release } from './lock';
import type { Posts } from './posts';
import { POLLED, STREAMED } from './route';
import { soon } from './soon';
import type { Bytes } from './wire';

const OPEN = 1;
const SEND = 2;
/** Size in bytes from which a POST takes no more frames. */
const ENOUGH = 65_536;
/**
 * Maximum number of tabs of one browser that stream. A browser opens six connections to a host, and
 * some must stay free to load pages.
 */
const STREAMS = 4;
/** How long a polling answer waits for frames, in milliseconds. */
const WAIT = 300;
/** Pause in milliseconds after a polling answer with frames. */
const PAUSE = 50;
/** Pause in milliseconds after a polling answer without frames. */
const QUIET_PAUSE = 500;
/** Time in milliseconds after a close for the server to take the remaining frames. */
const FAREWELL = 1000;

/**
 * A connection over HTTP requests, for networks that block WebSockets (PROTOCOL.md, section 16).
 */
export class Fallback implements Connection {
  bufferedAmount = 0;
  readonly #environment: Environment;
  readonly #handlers: ConnectionHandlers;
  readonly #posts: Posts;
  readonly #token: Bytes;
  readonly #abort = new AbortController();
  readonly #queue: Bytes[] = [];
  /** Ends this tab's stream so that another tab can stream. Absent if this connection polls. */
  #release: Release | undefined;
  /** Number of the last POST. The first one opens the connection. */
  #number = -1;
  #isBusy = true;
  /** Timer for the pause between two polls. */
  #pause: unknown;
  /** True if the current or last answer contained frames. */
  #hasPackets = false;
  #isOver = false;
  #rest: Bytes = new Uint8Array();

  constructor(kind: string, environment: Environment, handlers: ConnectionHandlers, posts: Posts) {
    this.#environment = environment;
    this.#handlers = handlers;
    this.#posts = posts;
    this.#token = environment.crypto.getRandomValues(new Uint8Array(16));
    void this.#begin(kind === STREAMED ? STREAMS : 0);
  }

  /** Kind of this connection. It polls if enough other tabs already stream. */
  get kind(): string {
    return this.#release ? STREAMED : POLLED;
  }

  send(frame: Bytes): void {
    this.#queue.push(frame);
    this.bufferedAmount += frame.length;
    // Frames sent in one task share one POST.
    queueMicrotask(() => void this.#post());
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    // A leave must outlive the page, and the server must take it before the stream ends.
    const last = this.#queue.length && this.#number >= 0 ? this.#send({ keepalive: true }).catch(() => {}) : undefined;
    const end = (): void => this.#end();
    if (!last) return end();
    void last.then(end);
    this.#environment.setTimeout(end, FAREWELL);
  }

  async #begin(slots: number): Promise<void> {
    const { navigator } = this.#environment;
    for (let slot = 0; slot < slots && navigator.locks && !this.#release; slot++) {
      this.#release = await lock(navigator.locks, `stillhere:stream:${slot}`).catch(() => undefined);
    }
    if (this.#isOver) return this.#end();
    this.#isBusy = false;
    this.#handlers.onopen();
  }

  /**
   * Posts the queued frames, one POST at a time. A polling connection also posts without frames.
   */
  async #post(): Promise<void> {
    if (this.#isBusy || this.#isOver || (!this.#queue.length && (this.#release || this.#number < 0))) return;
    this.#isBusy = true;
    const isFirst = this.#number < 0;
    try {
      const response = await this.#send({ signal: this.#abort.signal });
      if (!response) return this.#lose();
      const reading = this.#read(response);
      if (!isFirst || !this.#release) await reading;
      else void reading.then(() => this.#lose(), () => this.#lose());
    } catch {
      return this.#lose();
    }
    this.#isBusy = false;
    if (this.#queue.length) void this.#post();
    else if (!this.#release) {
      this.#environment.clearTimeout(this.#pause);
      this.#pause = this.#environment.setTimeout(() => void this.#post(), this.#hasPackets ? PAUSE : QUIET_PAUSE);
    }
  }

  /**
   * Sends frames from the queue. Splits a POST that was too large into smaller ones: the server has
   * not taken it, or recognizes it by its number.
   */
  async #send(options: RequestInit): Promise<Response | undefined> {
    const number = ++this.#number;
    for (;;) {
      const frames = this.#take(number ? 25 : 21);
      const body = this.#encode(number, frames);
      const response = await this.#posts.send(this.#handlers.url, body, frames.length, options);
      if (response || frames.length < 2 || body.length <= this.#posts.most) return response;
      this.#queue.unshift(...frames);
      for (const { length } of frames) this.bufferedAmount += length;
    }
  }

  #take(head: number): Bytes[] {
    let count = 0;
    let size = head;
    for (const { length } of this.#queue) {
      if (count && (size - head >= ENOUGH || size + 4 + length > this.#posts.most)) break;
      size += 4 + length;
      count += 1;
      this.bufferedAmount -= length;
    }
    return this.#queue.splice(0, count);
  }

  #encode(number: number, frames: readonly Bytes[]): Bytes {
    const head = number ? 25 : 21;
    const body = new Uint8Array(frames.reduce((size, { length }) => size + 4 + length, head));
    const view = new DataView(body.buffer);
    body[0] = number ? SEND : OPEN;
    body.set(this.#token, 1);
    // A closing connection asks for an immediate answer.
    view.setUint32(17, this.#release ? 0 : this.#queue.length ? 1 : WAIT, true);
    if (number) view.setUint32(21, number, true);
    let at = head;
    for (const frame of frames) {
      view.setUint32(at, frame.length, true);
      body.set(frame, at + 4);
      at += 4 + frame.length;
    }
    return body;
  }

  async #read({ body }: Response): Promise<void> {
    const reader = body!.getReader();
    this.#hasPackets = false;
    for (let chunk; !(chunk = await reader.read()).done; ) this.#receive(chunk.value as Bytes);
  }

  #receive(chunk: Bytes): void {
    const bytes = this.#rest.length ? join([this.#rest, chunk]) : chunk;
    let at = 0;
    while (!this.#isOver && bytes.length >= at + 4) {
      const end = at + 4 + new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0, true);
      if (end > bytes.length) break;
      if (end > at + 4) {
        this.#hasPackets = true;
        this.#handlers.onmessage(bytes.subarray(at + 4, end));
      }
      at = end;
    }
    this.#rest = bytes.slice(at);
  }

  #lose(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#end();
    soon(this.#environment, () => this.#handlers.onclose());
  }

  #end(): void {
    this.#abort.abort();
    this.#release?.();
  }
}
