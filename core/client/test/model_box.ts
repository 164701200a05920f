// A server behind a middlebox that passes some kinds of connection, in virtual time.

import { type Bytes, encode, Type } from '../src/wire';
import { answerPosts, type FakePost } from './fake_http';
import type { FakePage, FakeSocket } from './fake_page';
import { encodeData, encodeEnd, encodeWelcome, readNumbers, type Welcome } from './fake_server';

export type WebSockets = 'work' | 'are refused' | 'hang' | 'open and carry nothing' | 'die after 2000 bytes' | 'die after 2 s';
export type Streams = 'work' | 'are held back' | 'are cut short';
export type Answers = 'work' | '403' | '413' | '429' | '503' | 'redirect' | 'portal';

export interface Ways {
  webSockets: WebSockets;
  streams: Streams;
  posts: Answers;
}

const STEP = 100;
const HEARTBEAT = 2000;
/** What the server sends unprompted, and how often. */
const CHATTER = new Uint8Array(300);
const CHATTER_EVERY = 500;

/** The server side of one connection. */
class End {
  said: Bytes[] = [];
  isOver = false;
  #heardAt: number;
  #chatterAt = Infinity;
  #sequence = 0;

  constructor(now: number, readonly isChatty: boolean, readonly box: Box) {
    this.#heardAt = now;
  }

  hear(frame: Bytes, now: number): void {
    this.#heardAt = now;
    if (frame[0] === Type.Hello) {
      this.said.push(encodeWelcome({ heartbeat: this.box.heartbeat, received: [this.box.received.length, 0], ...this.box.welcome }));
      if (this.isChatty) this.#chatterAt = now;
    } else if (frame[0]! >= Type.Data) {
      const [sequence] = readNumbers(frame.subarray(1));
      if (sequence === this.box.received.length + 1) this.box.received.push(frame);
    } else if (frame[0] === Type.Leave) this.isOver = true;
    else if (frame[0] === Type.Ping) this.#say(Type.Pong, frame[1]!);
  }

  pass(now: number): void {
    if (this.isOver) return;
    if (now >= this.#chatterAt) {
      this.#chatterAt = now + CHATTER_EVERY;
      this.said.push(encodeData(++this.#sequence, CHATTER));
    }
    const silence = now - this.#heardAt;
    if (silence >= 2 * this.box.heartbeat) {
      this.said.push(encodeEnd(4301));
      this.isOver = true;
    } else if (silence >= this.box.heartbeat) this.#say(Type.Ping, 1);
  }

  #say(type: Type, nonce: number): void {
    this.said.push(encode(type, [nonce, this.box.received.length, 0, 1_000_000, 1_000_000]));
  }

  take(): Bytes[] {
    return this.said.splice(0);
  }
}

interface Carried {
  end: End;
  since: number;
  bytes: number;
}

/** The middlebox and its connections. */
export class Box {
  ways: Ways;
  welcome: Welcome = {};
  heartbeat = HEARTBEAT;
  /** POSTs with more bytes than this are refused with 413. */
  most = Infinity;
  retryAfter: string | undefined;
  readonly posts: FakePost[];
  /** Data frames that the server has accepted. */
  readonly received: Bytes[] = [];
  readonly #page: FakePage;
  readonly #sockets = new Map<FakeSocket, Carried>();
  readonly #over = new Set<FakeSocket>();
  readonly #streams = new Map<FakePost, Carried & { held: Bytes[] }>();
  readonly #polled = new Map<string, End>();
  #taken = 0;

  constructor(page: FakePage, ways: Ways) {
    this.#page = page;
    let drawn = 0;
    Object.assign(page, { crypto: { getRandomValues: (array: Bytes) => array.fill(++drawn) } });
    this.posts = answerPosts(page);
    this.ways = ways;
  }

  /** Lets time pass and calls `look` after each step. */
  async advance(time: number, look: () => void = () => {}): Promise<void> {
    for (const end = this.#now + time; this.#now < end; ) {
      await this.#page.browser.advance(STEP);
      for (const socket of this.#page.sockets) if (!this.#over.has(socket)) this.#carrySocket(socket);
      for (const post of this.posts.slice(this.#taken)) this.#take(post);
      this.#taken = this.posts.length;
      for (const [post, stream] of this.#streams) this.#carryStream(post, stream);
      await this.#page.browser.settle();
      look();
    }
  }

  get #now(): number {
    return this.#page.browser.steady;
  }

  #loseSocket(socket: FakeSocket, code?: number): void {
    this.#over.add(socket);
    socket.lose(code);
  }

  #carrySocket(socket: FakeSocket): void {
    const { webSockets } = this.ways;
    const now = this.#now;
    if (webSockets === 'are refused') return this.#loseSocket(socket);
    if (webSockets === 'hang') return;
    let carried = this.#sockets.get(socket);
    if (!carried) {
      carried = { end: new End(now, webSockets === 'die after 2000 bytes', this), since: now, bytes: 0 };
      this.#sockets.set(socket, carried);
      socket.open();
    }
    if (webSockets === 'open and carry nothing') return;
    const { end, since } = carried;
    for (const frame of socket.read()) end.hear(frame, now);
    if (socket.closedWith !== undefined) return this.#loseSocket(socket, socket.closedWith);
    end.pass(now);
    for (const frame of end.take()) {
      carried.bytes += frame.length;
      if (webSockets === 'die after 2000 bytes' && carried.bytes > 2000) return this.#loseSocket(socket);
      socket.receive(frame);
    }
    if (end.isOver || (webSockets === 'die after 2 s' && now - since >= 2000)) this.#loseSocket(socket);
  }

  #take(post: FakePost): void {
    const { posts } = this.ways;
    const retryAfter: Record<string, string> = this.retryAfter === undefined ? {} : { 'retry-after': this.retryAfter };
    if (posts === 'redirect') return post.redirect();
    if (posts === 'portal') return post.html();
    if (posts !== 'work') return post.status(Number(posts), retryAfter);
    if ((post.options.body as Bytes).length > this.most) return post.status(413);
    if (post.operation === 1) return this.#openPosts(post);
    const stream = [...this.#streams].find(([{ token }]) => token === post.token);
    const end = stream?.[1].end ?? this.#polled.get(post.token);
    if (!end || end.isOver) return post.status(410);
    for (const frame of post.frames) end.hear(frame, this.#now);
    end.pass(this.#now);
    post.answer(...(stream ? [] : end.take()));
  }

  #openPosts(post: FakePost): void {
    const end = new End(this.#now, false, this);
    for (const frame of post.frames) end.hear(frame, this.#now);
    if (post.wait > 0) {
      this.#polled.set(post.token, end);
      return post.answer(...end.take());
    }
    this.#streams.set(post, { end, since: this.#now, bytes: 0, held: [] });
    if (this.ways.streams !== 'are held back') post.stream(new Uint8Array());
  }

  #carryStream(post: FakePost, stream: Carried & { held: Bytes[] }): void {
    const { end, since, held } = stream;
    const { streams } = this.ways;
    if (post.isAborted) return void this.#streams.delete(post);
    end.pass(this.#now);
    if (streams === 'are held back') {
      held.push(...end.take());
      if (!end.isOver) return;
      post.answer(...held);
    } else {
      post.push(...end.take());
      if (!end.isOver && (streams === 'work' || this.#now - since < 1000)) return;
      post.end();
    }
    this.#streams.delete(post);
  }
}
