// The application can view a message through any typed array, over every kind of connection.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';

import { registerConnection } from '../src/kinds';
import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import { type Bytes, encode, Flag, type Lane, Type } from '../src/wire';
import { answerPosts } from './fake_http';
import { FakePage } from './fake_page';
import { accept, encodeWelcome, LIMITS, ticketOf } from './fake_server';

/** Connects a page and delivers frames to it. */
type Route = (page: FakePage) => Promise<{ session: Session; bring: (frames: Bytes[]) => void }>;

const overWebSocket: Route = async (page) => {
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  accept(page.socket);
  return { session, bring: (frames) => frames.forEach((frame) => page.socket.receive(frame)) };
};

const overPosts = (isStreamed: boolean): Route => async (page) => {
  const posts = answerPosts(page);
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  while (!posts.length) {
    await page.browser.settle();
    page.socket.lose();
    await page.browser.advance(1000);
  }
  assert.equal(posts[0]!.wait === 0, isStreamed);
  if (isStreamed) posts[0]!.stream(encodeWelcome());
  else posts[0]!.answer(encodeWelcome());
  await page.browser.advance(1000);
  return { session, bring: (frames) => (isStreamed ? posts[0]!.push(...frames) : posts.at(-1)!.answer(...frames)) };
};

/** `give` converts a frame into what this kind passes to the client. */
const overKind = (name: string, give: (frame: Bytes) => ArrayBuffer | Bytes): Route => async (page) => {
  let onmessage: ((data: ArrayBuffer | Bytes) => void) | undefined;
  registerConnection(name, (handlers) => {
    ({ onmessage } = handlers);
    queueMicrotask(handlers.onopen);
    return { send() {}, close() {} };
  });
  const session = new Session(ticketOf('mine', { connection: name }), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  onmessage!(encodeWelcome());
  return { session, bring: (frames) => frames.forEach((frame) => onmessage!(give(frame))) };
};

/** Returns the frame inside a larger buffer, with its payload at an even or an odd offset. */
const within = (before: number) => (frame: Bytes): Bytes => {
  const buffer = new Uint8Array(before + frame.length + 3).fill(0xee);
  buffer.set(frame, before);
  return buffer.subarray(before, before + frame.length);
};

const ROUTES: [string, Route, { withoutLocks?: boolean }?][] = [
  ['over a WebSocket', overWebSocket],
  ['streamed', overPosts(true)],
  ['polled', overPosts(false), { withoutLocks: true }],
  ['over a kind that gives buffers', overKind('buffers', (frame) => frame.slice().buffer)],
  ['over a kind that gives views', overKind('views', within(5))],
  ['over a kind whose views happen to fit', overKind('fitting views', within(6))],
];

type View = { new (buffer: ArrayBuffer, byteOffset: number, length: number): ArrayBufferView; BYTES_PER_ELEMENT?: number };
const VIEWS: View[] = [
  Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array, DataView,
];

const pattern = (length: number): Bytes => Uint8Array.from({ length }, (_, index) => index * index);
const MESSAGES: [string, Bytes, { compressed?: boolean }?][] = [
  ['empty', pattern(0)],
  ['small', pattern(8)],
  ['of an odd length', pattern(13)],
  ['of a whole fragment', pattern(LIMITS.fragment)],
  ['in fragments', pattern(4 * LIMITS.fragment + 8)],
  ['compressed', pattern(800), { compressed: true }],
  ['compressed, in fragments', Uint8Array.from({ length: 1600 }, (_, index) => (index * 2_654_435_761) >>> 13), { compressed: true }],
  ['compressed, of nothing', pattern(0), { compressed: true }],
];

for (const [how, route, options] of ROUTES) {
  test(`a message starts at the first byte of a buffer of its own: ${how}`, async () => {
    const page = new FakePage(options);
    const { session, bring } = await route(page);
    assert.equal(session.status.state, 'connected');
    const received: [Bytes, string][] = [];
    session.onmessage = (data, lane) => void received.push([data, lane]);
    const sequences: [number, number] = [0, 0];
    for (const [what, message, { compressed = false } = {}] of MESSAGES) {
      for (const lane of [0, 1] as const) {
        const count = received.length;
        bring(framesOf(message, lane, sequences, compressed));
        // Node inflates in other threads, so the number of turns is unknown.
        while (received.length === count) await page.browser.settle();
        // Waits for the next poll.
        await page.browser.advance(1000);
        const [data, name] = received.at(-1)!;
        assert.deepEqual([name, Buffer.from(data).equals(message)], [lane ? 'bulk' : 'interactive', true], what);
        assert.deepEqual([data.byteOffset, data.buffer.byteLength], [0, message.length], what);
        assertViews(data);
      }
    }
  });
}

test('changes to a message, or to a buffer that a kind passed, do not affect later messages', async () => {
  let reused = new Uint8Array();
  const give = (frame: Bytes): Bytes => {
    reused.fill(0xdd);
    return (reused = frame.slice());
  };
  const page = new FakePage();
  const { session, bring } = await overKind('reused buffers', give)(page);
  const received: string[] = [];
  bring([...framesOf(pattern(2500), 0, [0, 0], false), ...framesOf(pattern(20), 0, [3, 0], false)]);
  session.onmessage = (data) => {
    received.push(Buffer.from(data).toString('hex'));
    structuredClone(data.buffer, { transfer: [data.buffer] });
  };
  await page.browser.settle();
  assert.deepEqual(received, [pattern(2500), pattern(20)].map((message) => Buffer.from(message).toString('hex')));
});

/** Returns the message's data frames, which continue the lane's sequence. */
function framesOf(message: Bytes, lane: Lane, sequences: [number, number], compressed: boolean): Bytes[] {
  const payload = compressed ? deflateSync(message) : message;
  const frames: Bytes[] = [];
  for (let at = 0; at === 0 || at < payload.length; at += LIMITS.fragment) {
    const part = payload.subarray(at, at + LIMITS.fragment);
    const flags = lane + (at + LIMITS.fragment < payload.length ? Flag.More : 0) + (compressed ? Flag.Compressed : 0);
    frames.push(encode(Type.Data + flags, [++sequences[lane]], part));
  }
  return frames;
}

function assertViews(data: Bytes): void {
  for (const View of VIEWS) {
    const size = View.BYTES_PER_ELEMENT ?? 1;
    const view = new View(data.buffer, data.byteOffset, Math.floor(data.byteLength / size));
    assert.equal(view.byteLength, data.byteLength - (data.byteLength % size), View.name);
  }
}
