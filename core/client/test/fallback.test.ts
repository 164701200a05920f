import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { registerConnection } from '../src/kinds';
import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import { type Bytes, Type } from '../src/wire';
import { type FakePost, answerPosts } from './fake_http';
import { FakePage, FakeStorage, type PageOptions } from './fake_page';
import { accept, encodeData, encodeEnd, encodePing, encodeWelcome, payloadsOf, readHello, ticketOf, typesOf } from './fake_server';

const bytes = (content: string): Uint8Array => Buffer.from(content);
const keepAlive = new Uint8Array();

/** A page in a network that blocks WebSockets. */
class Blocked {
  readonly page: FakePage;
  readonly posts: FakePost[];
  readonly session: Session;
  readonly messages: string[] = [];

  constructor(options: PageOptions = {}) {
    this.page = new FakePage(options);
    this.posts = answerPosts(this.page);
    this.session = new Session(ticketOf('mine'), { onmessage: (data) => void this.messages.push(Buffer.from(data).toString()) }, this.page, EVERY_FEATURE);
  }

  /** Advances the time until the page gives up on WebSockets. */
  async refuseWebSockets(): Promise<void> {
    for (let tried = 0; this.posts.length === 0; tried += 1) {
      assert.ok(tried < 10, 'it never gives up');
      await this.page.browser.settle();
      for (const socket of this.page.sockets.slice(-1)) socket.lose();
      await this.page.browser.advance(1000);
    }
  }

  /** Connects the page over POSTs. */
  static async connected(options: PageOptions = {}): Promise<Blocked> {
    const blocked = new Blocked(options);
    await blocked.refuseWebSockets();
    blocked.posts[0]!.stream(keepAlive, encodeWelcome());
    await blocked.page.browser.advance(1);
    assert.equal(blocked.session.status.state, 'connected');
    return blocked;
  }

  settle(): Promise<void> {
    return this.page.browser.settle();
  }
}

const framesOf = (posts: readonly FakePost[]): Bytes[] => posts.flatMap(({ frames }) => frames);

test('a page whose WebSockets do not open switches to POSTs, and says hello in the first', async () => {
  const { posts, session, page } = await Blocked.connected();
  assert.equal(page.sockets.length, 2, 'one in vain, and one beside the fallback');
  const [{ url, options, operation, wait, frames }] = posts as [FakePost];
  assert.deepEqual({ url, operation, wait }, { url: 'https://example.com/stillhere/mine', operation: 1, wait: 0 });
  assert.equal((options.headers as Record<string, string>)['content-type'], 'application/stillhere.v1');
  assert.equal(readHello(frames[0]).attempt, 2);
  assert.equal(session.connection, 'streamed');
});

test('messages arrive over the stream, and each POST sends all that are waiting, one POST at a time', async () => {
  const { posts, session, messages, settle } = await bound();
  posts[0]!.push(encodeData(1, 'one'), keepAlive, encodeData(2, 'two'));
  await settle();
  assert.deepEqual(messages, ['one', 'two']);

  session.send(bytes('a'));
  session.send(bytes('b'));
  await settle();
  session.send(bytes('c'));
  await settle();
  const first = posts.slice(1);
  assert.equal(first.length, 1, 'the next waits for the answer');
  assert.equal(first[0]!.number, 1);
  assert.deepEqual(payloadsOf(framesOf(first)), ['a', 'b']);
  first[0]!.answer();
  await settle();
  assert.equal(posts[2]!.number, 2);
  assert.deepEqual(payloadsOf(framesOf(posts.slice(2))), ['c']);
});

test('a failed POST or an ended stream is a lost connection, after which the session resumes', async () => {
  for (const lose of [(post: FakePost, _: FakePost) => post.fail(), (post: FakePost) => post.status(410), (_: FakePost, stream: FakePost) => stream.end()]) {
    const { posts, session, settle, page } = await bound();
    // A stream that is lost right after its welcome was held back on the way.
    await page.browser.advance(200);
    session.send(bytes('a'));
    await settle();
    lose(posts[1]!, posts[0]!);
    await page.browser.advance(1000);
    const again = posts.at(-1)!;
    assert.equal(again.operation, 1);
    assert.notEqual(session.status.state, 'connected');
    again.stream(encodeWelcome({ incarnation: 1, received: [0, 0] }));
    await settle();
    assert.equal(session.status.outcome, 'resumed');
    await settle();
    assert.deepEqual(payloadsOf(framesOf(posts.slice(-1))), ['a'], 'what was not received is sent again');
  }
});

test('the stream reports the end of the session', async () => {
  const { posts, session, settle } = await bound();
  posts[0]!.push(encodeEnd(4102, 2, 0, 'bye'));
  posts[0]!.end();
  await settle();
  assert.deepEqual([session.status.state, session.status.text], ['ended', 'bye']);
});

test('a page that leaves says so in a POST that outlives it', async () => {
  const { posts, settle, page } = await bound();
  page.emit('pagehide', { persisted: false });
  await settle();
  const last = posts.at(-1)!;
  assert.deepEqual(typesOf(last.frames), [Type.Leave]);
  assert.equal(last.options.keepalive, true);
  assert.ok(!posts[0]!.isAborted, 'the stream stays until the leave is taken');
  last.answer();
  await settle();
  assert.ok(posts[0]!.isAborted);
});

test('a WebSocket on which the server answers replaces the fallback', async () => {
  const blocked = await Blocked.connected();
  const { page, posts, session } = blocked;
  await blocked.settle();
  const [, trial] = page.sockets;
  trial!.open();
  assert.deepEqual([trial!.closedWith, trial!.sent], [1000, []], 'only a server that hears the close answers it');
  await page.browser.advance(500);
  assert.equal(page.sockets.length, 2);
  trial!.lose(1000);
  await page.browser.advance(500);
  assert.equal(accept(page.sockets[2]!, { incarnation: 1 }).incarnation, 1);
  await blocked.settle();
  assert.deepEqual([session.connection, session.status.outcome], ['websocket', 'resumed']);
  assert.ok(posts[0]!.isAborted);
});

test('a WebSocket that opens but carries nothing does not replace the fallback', async () => {
  const { page, posts, session } = await Blocked.connected();
  page.socket.open();
  page.socket.lose(1006);
  await page.browser.advance(9000);
  assert.deepEqual([session.connection, session.status.state, page.sockets.length], ['streamed', 'connected', 2]);
  assert.ok(!posts[0]!.isAborted);
});

/** Lets the trial of a WebSocket succeed, so that the page switches to it. */
async function passTrial({ page }: Blocked): Promise<void> {
  page.socket.open();
  page.socket.lose(1000);
  await page.browser.advance(500);
}

test('the tab remembers that WebSockets do not get through, until one does', async () => {
  const storage = new FakeStorage();
  await Blocked.connected({ storage });
  const next = new Blocked({ storage });
  await next.settle();
  assert.deepEqual([next.page.sockets.length, next.posts.length], [0, 1]);
  next.posts[0]!.stream(encodeWelcome());
  await next.page.browser.advance(1);
  await passTrial(next);
  accept(next.page.sockets.at(-1)!, { incarnation: 1 });
  await next.settle();
  const third = new Blocked({ storage });
  await third.settle();
  assert.deepEqual([third.page.sockets.length, third.posts.length], [1, 0]);
});

test('a page polls if all streams are in use or cannot be counted', async () => {
  const blocked = new Blocked({ withoutLocks: true });
  await blocked.refuseWebSockets();
  const { posts, page, messages, session } = blocked;
  assert.ok(posts[0]!.wait > 0);
  posts[0]!.answer(encodeWelcome());
  await blocked.settle();
  assert.equal(session.status.state, 'connected');
  assert.equal(posts.length, 1);
  await page.browser.advance(1000);
  assert.deepEqual([posts.length, posts[1]!.frames.length], [2, 0]);
  posts[1]!.answer(encodeData(1, 'one'));
  await blocked.settle();
  assert.deepEqual(messages, ['one']);
  session.send(bytes('a'));
  await blocked.settle();
  assert.ok(payloadsOf(framesOf(posts.slice(2))).includes('a'), 'it does not wait for the pause to end');

  posts[2]!.answer(encodeData(2, 'two'));
  await page.browser.advance(100);
  assert.equal(posts.length, 4, 'after an answer that said something it soon asks again');

  const before = posts.length;
  for (let poll = 0; poll < 20; poll += 1) {
    posts.at(-1)!.answer();
    await page.browser.advance(500);
  }
  assert.ok(posts.length - before <= 20, 'what is sent between them does not make polls more frequent');
});

test('a page that polls does not wait for an answer while it has more to send', async () => {
  const blocked = new Blocked({ withoutLocks: true });
  await blocked.refuseWebSockets();
  const { posts, session } = blocked;
  posts[0]!.answer(encodeWelcome());
  await blocked.settle();
  for (let sent = 0; sent < 20; sent += 1) session.send(new Uint8Array(4000));
  await blocked.settle();
  assert.equal(posts[1]!.wait, 1);
  posts[1]!.answer();
  await blocked.settle();
  assert.ok(posts[2]!.frames.length > 0, 'a POST takes no more from 64 KiB on');
  assert.ok(posts[2]!.wait > 1);
});

test('a POST has at most 1 MiB, however large the fragments are', async () => {
  const limits = { fragment: 1_000_000, message: 4_000_000, inflated: 8_000_000, window: 8_000_000, bulkWindow: 8_000_000 };
  const page = new FakePage({ withoutLocks: true });
  const posts = answerPosts(page);
  const session = new Session(ticketOf('mine', { limits }), {}, page, EVERY_FEATURE);
  while (!posts.length) {
    await page.browser.settle();
    page.socket.lose();
    await page.browser.advance(1000);
  }
  posts[0]!.answer(encodeWelcome({ limits }));
  await page.browser.settle();
  session.send(new Uint8Array(60_000));
  session.sendBulk(new Uint8Array(990_000));
  await page.browser.settle();
  posts[1]!.answer();
  await page.browser.settle();
  assert.deepEqual(framesOf(posts.slice(1)).map(({ length }) => length > 900_000), [false, true]);
  for (const { options } of posts) assert.ok((options.body as Bytes).length <= 2 ** 20);
});

test('the fallback keeps the session if WebSockets open but carry nothing', async () => {
  const page = new FakePage();
  const posts = answerPosts(page);
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  const handled = new Set<unknown>();
  let connected = 0;
  for (let second = 0; second < 120; second += 1) {
    for (const socket of page.sockets.filter((socket) => !handled.has(socket) && socket.closedWith === undefined)) {
      handled.add(socket);
      socket.open();
    }
    for (const post of posts.filter((post) => !handled.has(post))) {
      handled.add(post);
      if (post.operation === 1) post.stream(encodeWelcome({ incarnation: 1 }));
      else post.answer();
    }
    for (const post of posts.filter(({ operation, isAborted }) => operation === 1 && !isAborted)) post.push(keepAlive, encodePing(second));
    await page.browser.advance(1000);
    connected += Number(session.status.state === 'connected');
  }
  assert.ok(connected > 95, `connected for ${connected} s of 120`);
});

test('a WebSocket that does not open is closed before the next one is tried', async () => {
  const blocked = await Blocked.connected();
  for (let minute = 0; minute < 31; minute += 1) {
    for (let times = 0; times < 6; times += 1) {
      blocked.posts[0]!.push(encodePing(minute));
      await blocked.page.browser.advance(10_000);
      blocked.posts.at(-1)!.answer();
    }
  }
  const trials = blocked.page.sockets.slice(1);
  assert.equal(trials.length, 7, 'at once, and every five minutes');
  assert.deepEqual([...new Set(trials.map(({ closedWith }) => closedWith))], [1000]);
});

test('a session moves from a WebSocket to the fallback, and back', async () => {
  const page = new FakePage();
  const posts = answerPosts(page);
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  accept(page.socket);
  await page.browser.settle();
  for (let move = 0; move < 3; move += 1) {
    session.send(bytes(`a${move}`));
    await page.browser.settle();
    const before = posts.length;
    while (posts.length === before) {
      page.socket.lose();
      await page.browser.advance(1000);
    }
    const received = [move * 2, 0] as [number, number];
    posts.at(-1)!.stream(encodeWelcome({ received }));
    await page.browser.advance(1);
    assert.deepEqual([session.connection, session.status.outcome], ['streamed', 'resumed']);
    assert.deepEqual(payloadsOf(framesOf(posts.slice(-1))), [`a${move}`], 'what was lost with the WebSocket');
    session.send(bytes(`b${move}`));
    await page.browser.settle();

    await passTrial({ page } as Blocked);
    accept(page.socket, { received: [move * 2 + 2, 0] });
    await page.browser.settle();
    assert.equal(session.connection, 'websocket');
    // A kind with repeated short lives would be avoided for a while.
    await page.browser.advance(10_000);
  }
});

test('a registered kind carries the session, whenever it was registered; if it fails, WebSockets do', async () => {
  const page = new FakePage();
  const session = new Session(ticketOf('mine', { connection: 'carrier-pigeon' }), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  assert.equal(page.sockets.length, 0);
  const sent: Bytes[] = [];
  let pigeons = 0;
  registerConnection('carrier-pigeon', ({ url, onopen, onmessage, onclose }) => {
    pigeons += 1;
    assert.equal(url, 'https://example.com/stillhere/mine');
    if (pigeons > 1) throw new Error('shot down');
    queueMicrotask(onopen);
    const send = (frame: Bytes): void => {
      if (sent.push(frame) === 2) throw new Error('too heavy');
      onmessage(encodeWelcome());
    };
    return { send, close: () => onclose() };
  });
  await page.browser.settle();
  assert.deepEqual([session.status.state, session.connection], ['connected', 'carrier-pigeon']);
  assert.equal(readHello(sent[0]).attempt, 1);

  session.send(bytes('a'));
  await page.browser.advance(3000);
  assert.equal(pigeons, 3);
  accept(page.socket, { incarnation: 1 });
  await page.browser.settle();
  assert.deepEqual([session.connection, session.status.outcome], ['websocket', 'resumed']);
  assert.deepEqual(payloadsOf(page.socket.read()), ['a']);
});

test('a page without a server says so and does not try to connect', async () => {
  const page = new FakePage();
  const session = new Session({ protocol: 'stillhere.v1', connection: 'none' }, {}, page, EVERY_FEATURE);
  await page.browser.advance(60_000);
  assert.deepEqual([session.status.state, session.status.reason], ['refused', 'NoServer']);
  assert.equal(page.sockets.length, 0);
  assert.throws(() => session.send(bytes('a')), /NoServer/);
});

async function bound(): Promise<{ posts: FakePost[]; session: Session; messages: string[]; page: FakePage; settle: () => Promise<void> }> {
  const blocked = await Blocked.connected();
  return { posts: blocked.posts, session: blocked.session, messages: blocked.messages, page: blocked.page, settle: () => blocked.settle() };
}
