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
/** A POST takes no more frames from so many bytes on. */
const ENOUGH = 65_536;
/** Tabs of one browser that may stream: a browser opens six connections to a host, and the others must load pages. */
const STREAMS = 4;
/** Where nothing is streamed: milliseconds for which an answer waits for something to say, */
const WAIT = 300;
/** until the next is asked for after one with packets, */
const PAUSE = 50;
/** and after one without. */
const QUIET_PAUSE = 500;
/** After a close: until what is left to say has been taken. */
const FAREWELL = 1000;

/** A connection over HTTP requests, for networks that block WebSockets (PROTOCOL.md: the fallback). */
export class Fallback implements Connection {
  bufferedAmount = 0;
  readonly #environment: Environment;
  readonly #handlers: ConnectionHandlers;
  readonly #posts: Posts;
  readonly #token: Bytes;
  readonly #abort = new AbortController();
  readonly #queue: Bytes[] = [];
  /** Ends this tab's stream, for another to have one; absent if it polls. */
  #release: Release | undefined;
  /** Of the last POST; the first opens. */
  #number = -1;
  #isBusy = true;
  /** Between two polls. */
  #pause: unknown;
  /** The answer that is being read, or was read last, had packets. */
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

  /** Where other tabs stream already, one that would stream polls. */
  get kind(): string {
    return this.#release ? STREAMED : POLLED;
  }

  send(frame: Bytes): void {
    this.#queue.push(frame);
    this.bufferedAmount += frame.length;
    // What is sent in one go travels in one POST.
    queueMicrotask(() => void this.#post());
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    // A leave: it must outlive the page, and be taken before the stream is gone.
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

  /** Posts what is queued, one POST at a time; where nothing is streamed, also an empty one. */
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

  /** Takes frames off the queue. A POST that is too large is made again with fewer: the server has not taken it, or knows it by its number. */
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
    // What is left to say would wait for as long as the answer.
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
