// A fake server of the fallback, controlled POST by POST.

import { setMaxListeners } from 'node:events';

import type { Environment } from '../src/environment';
import type { Bytes } from '../src/wire';
import type { FakePage } from './fake_page';

const FRAMES = { 'content-type': 'application/stillhere.v1' };

/** A POST waiting for its answer. */
export class FakePost {
  readonly operation: number;
  readonly token: string;
  readonly wait: number;
  /** 0 in the POST that opens the connection. */
  readonly number: number;
  readonly frames: Bytes[] = [];
  readonly #answer: (response: Response) => void;
  readonly #refuse: (error: Error) => void;
  #down: ReadableStreamDefaultController<Bytes> | undefined;
  isAborted = false;

  constructor(
    readonly url: string,
    readonly options: RequestInit,
    answer: (response: Response) => void,
    refuse: (error: Error) => void,
  ) {
    this.#answer = answer;
    this.#refuse = refuse;
    const body = options.body as Bytes;
    const view = new DataView(body.buffer);
    this.operation = body[0]!;
    this.token = Buffer.from(body.subarray(1, 17)).toString('hex');
    this.wait = view.getUint32(17, true);
    this.number = this.operation === 2 ? view.getUint32(21, true) : 0;
    for (let at = this.operation === 2 ? 25 : 21; this.operation < 3 && at < body.length; ) {
      const length = view.getUint32(at, true);
      this.frames.push(body.slice(at + 4, at + 4 + length));
      at += 4 + length;
    }
    if (options.signal) setMaxListeners(0, options.signal);
    options.signal?.addEventListener('abort', () => {
      this.isAborted = true;
      this.fail();
    });
  }

  /** Answers with these frames, and keeps the answer open. */
  stream(...frames: Bytes[]): void {
    this.streamBytes(framed(frames));
  }

  streamBytes(bytes: Bytes): void {
    const body = new ReadableStream<Bytes>({ start: (controller) => void (this.#down = controller) });
    this.#answer(new Response(body, { headers: FRAMES }));
    this.pushBytes(bytes);
  }

  push(...frames: Bytes[]): void {
    this.pushBytes(framed(frames));
  }

  pushBytes(bytes: Bytes): void {
    // Splits the bytes regardless of frame boundaries.
    for (let at = 0; at < bytes.length; at += 3) this.#down!.enqueue(bytes.slice(at, at + 3));
  }

  end(): void {
    this.#down!.close();
  }

  answer(...frames: Bytes[]): void {
    this.answerBytes(framed(frames));
  }

  answerBytes(bytes: Bytes): void {
    this.#answer(new Response(bytes, { headers: FRAMES }));
  }

  status(status: number, headers: Record<string, string> = {}): void {
    this.#answer(new Response('', { status, headers }));
  }

  /** Answers with a redirect, as `fetch` reports one that it must not follow. */
  redirect(): void {
    this.#answer({ type: 'opaqueredirect', status: 0, headers: new Headers(), body: null } as unknown as Response);
  }

  html(): void {
    this.#answer(new Response('<p>Welcome to our Wi-Fi', { headers: { 'content-type': 'text/html' } }));
  }

  fail(): void {
    const error = new TypeError('network error');
    this.#refuse(error);
    try {
      this.#down?.error(error);
    } catch {
      // It is over.
    }
  }
}

function framed(frames: readonly Bytes[]): Bytes {
  const parts = frames.map((frame) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(frame.length);
    return Buffer.concat([length, frame]);
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** Lets the page make POSTs, and returns the list that collects them. */
export function answerPosts(page: FakePage): FakePost[] {
  const posts: FakePost[] = [];
  const fetch: NonNullable<Environment['fetch']> = (url, options) =>
    new Promise((answer, refuse) => void posts.push(new FakePost(url, options, answer, refuse)));
  Object.assign(page, { fetch });
  return posts;
}
