import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code, Reason } from '../src/codes';
import type { ModelFrame } from './wire_model';
import { ack, bytes, data, hex, LIMITS, Page, welcomeFrame } from './page';

const dataOf = (frames: ModelFrame[]): ModelFrame[] => frames.filter(({ type }) => type === 'data');
const shapeOf = ({ lane, sequence, more, payload }: ModelFrame): unknown[] => [lane, sequence, more, payload!.length / 2];

/** Asserts the reaction to a violation: `leave`, a close with the code, and the end. */
function assertViolated(page: Page, code: Code): void {
  assert.deepEqual(page.frames.at(-1), { type: 'leave' });
  assert.deepEqual(page.action, { type: 'close', connection: page.connection, code });
  const event = page.events.at(-1)!;
  assert.equal(event.type, 'ended');
  assert.equal(event.code, code);
  assert.equal(Reason[event.reason!], Code[code]);
  assert.equal(page.machine.phase, 'over');
}

test('a message of at most one fragment is one frame', () => {
  const page = Page.connected().send(bytes(1)).send(bytes(100)).send(bytes(99), 1);
  assert.deepEqual(page.frames.map(shapeOf), [[0, 1, false, 1], [0, 2, false, 100], [1, 1, false, 99]]);
});

test('a longer message is cut into fragments of exactly the fragment size', () => {
  const page = Page.connected().send(bytes(101)).send(bytes(200)).send(bytes(201), 1);
  assert.deepEqual(page.frames.map(shapeOf), [
    [0, 1, true, 100], [0, 2, false, 1],
    [0, 3, true, 100], [0, 4, false, 100],
    [1, 1, true, 100], [1, 2, true, 100], [1, 3, false, 1],
  ]);
  const content = Uint8Array.from({ length: 950 }, (_, index) => index);
  assert.equal(Page.connected().send(content).frames.map(({ payload }) => payload).join(''), hex(content));
});

test('an empty message is a message like any other', () => {
  const page = Page.connected().send('');
  assert.deepEqual(page.frame, data(1, ''));
  page.receive(data(1, ''), data(2, 'x'), data(3, ''));
  assert.deepEqual(page.takeAll(), ['', 'x', '']);
});

test('the application may change its buffer after send', () => {
  const page = Page.connected();
  const buffer = bytes(150, 1);
  page.send(buffer.subarray(10, 20)).send(buffer);
  buffer.fill(2);
  assert.deepEqual(page.frames.map(({ payload }) => payload), ['01'.repeat(10), '01'.repeat(100), '01'.repeat(50)]);
});

test('messages of one lane are delivered in order', () => {
  const page = Page.connected().receive(data(1, 'a'), data(1, 'A', { lane: 1 }), data(2, 'b'), data(2, 'B', { lane: 1 }), data(3, 'c'));
  assert.deepEqual(page.takeAll(), ['a', 'b', 'c']);
  assert.deepEqual(page.takeAll(1), ['A', 'B']);
});

test('each lane delivers one message at a time', () => {
  const page = Page.connected().receive(data(1, 'a'), data(2, 'b'), data(1, 'A', { lane: 1 }));
  assert.equal(page.take(), 'a');
  assert.equal(page.take(), undefined);
  assert.equal(page.take(1), 'A');
  assert.equal(page.release().take(), 'b');
});

test('a duplicate is dropped and not charged', () => {
  const page = Page.connected().receive(data(1, bytes(100)), data(2, 'b'), data(1, bytes(100)), data(2, 'b'));
  assert.equal(page.takeAll().length, 2);
  assert.deepEqual(page.advance(200).frames.at(-1)!.credit, [2000 + 164 + 65, 1000]);
});

test('a gap ends the connection and delivers nothing of it', () => {
  const page = Page.connected().receive(data(2, 'b'));
  assert.deepEqual(page.actions, [{ type: 'close', connection: 1, code: Code.Gap }, { type: 'connect', connection: 2 }]);
  assert.equal(page.take(), undefined);
  page.forget().open();
  assert.deepEqual(page.frame.received, [0, 0]);
  page.receive(welcomeFrame(), data(1, 'a'), data(2, 'b'));
  assert.deepEqual(page.takeAll(), ['a', 'b']);
});

test('three gaps in a row without progress end the session', () => {
  const page = Page.connected();
  for (let gap = 0; gap < 2; gap++) page.receive(data(2, 'b')).open().receive(welcomeFrame());
  page.forget().receive(data(3, 'c'));
  assertViolated(page, Code.Malformed);
});

test('an accepted frame forgives the gaps before it', () => {
  const page = Page.connected();
  for (let gap = 0; gap < 2; gap++) page.receive(data(2, 'b')).open().receive(welcomeFrame());
  page.receive(data(1, 'A', { lane: 1 }));
  for (let gap = 0; gap < 2; gap++) page.receive(data(2, 'b')).open().receive(welcomeFrame());
  assert.equal(page.machine.phase, 'connected');
});

test('fragments of the two lanes may alternate', () => {
  const more = { more: true };
  const page = Page.connected().receive(
    data(1, bytes(100, 65), more), data(1, bytes(100, 97), { ...more, lane: 1 }), data(2, bytes(100, 66), more), data(2, 'b', { lane: 1 }), data(3, 'C'),
  );
  assert.deepEqual(page.takeAll(), ['A'.repeat(100) + 'B'.repeat(100) + 'C']);
  assert.deepEqual(page.takeAll(1), ['a'.repeat(100) + 'b']);
});

test('a message cut by a lost connection continues at the next fragment', () => {
  const page = Page.connected().receive(data(1, bytes(100, 65), { more: true })).lose().forget().open();
  assert.deepEqual(page.frame.received, [1, 0]);
  page.receive(welcomeFrame(), data(2, bytes(100, 66), { more: true }), data(3, 'C'));
  assert.deepEqual(page.takeAll(), ['A'.repeat(100) + 'B'.repeat(100) + 'C']);
});

test('the compressed flag is reported and is the same on all fragments of a message', () => {
  const compressed = { compressed: true };
  const page = Page.connected().receive(data(1, bytes(100), { ...compressed, more: true }), data(2, 'x', compressed), data(3, 'y'));
  assert.equal(page.machine.take(0)?.compressed, true);
  assert.equal(page.release().machine.take(0)?.compressed, false);
  for (const first of [true, false]) {
    const mixed = Page.connected().receive(data(1, bytes(100), { compressed: first, more: true }), data(2, 'x', { compressed: !first }));
    assertViolated(mixed, Code.Malformed);
  }
});

test('a fragment of the wrong size is malformed', () => {
  assertViolated(Page.connected().receive(data(1, bytes(99), { more: true })), Code.Malformed);
  assertViolated(Page.connected().receive(data(1, '', { more: true })), Code.Malformed);
  assertViolated(Page.connected().receive(data(1, bytes(100), { more: true }), data(2, bytes(99), { more: true })), Code.Malformed);
});

test('an empty last fragment after others is malformed', () => {
  assertViolated(Page.connected().receive(data(1, bytes(100), { more: true }), data(2, '')), Code.Malformed);
});

test('a payload above the fragment size is too large', () => {
  assertViolated(Page.connected().receive(data(1, bytes(101))), Code.TooLarge);
  assertViolated(Page.connected().receive(data(1, bytes(101), { more: true })), Code.TooLarge);
});

test('a message above the message limit is too large as soon as the sum exceeds it', () => {
  const limits = { ...LIMITS, message: 250 };
  const fragments = [data(1, bytes(100), { more: true }), data(2, bytes(100), { more: true })];
  assert.equal(Page.connected({ limits }).receive(...fragments, data(3, bytes(50))).take()?.length, 250);
  assertViolated(Page.connected({ limits }).receive(...fragments, data(3, bytes(51))), Code.TooLarge);
  assertViolated(Page.connected({ limits }).receive(...fragments, data(3, bytes(100), { more: true })), Code.TooLarge);
});

test('interactive frames go first and one bulk frame follows each 64 KiB of them', () => {
  const limits = { fragment: 1000, message: 300_000, inflated: 1, window: 1_000_000, bulkWindow: 1_000_000 };
  const page = Page.connected({ limits }, { credit: [1_000_000, 1_000_000] }).send(bytes(3000), 1).send(bytes(140_000));
  const frames = page.frames;
  const lanes = frames.map(({ lane }) => lane);
  const first = lanes.indexOf(1);
  const charge = (count: number): number => count * 1064;
  assert.ok(charge(first) >= 65_536 && charge(first - 1) < 65_536);
  assert.equal(lanes.indexOf(1, first + 1), 2 * first + 1);
  assert.deepEqual(lanes.slice(-1), [1]);
});

test('bulk waits while the transport does not accept it', () => {
  const page = Page.connected();
  page.bulkAllowed = false;
  page.send('bulk', 1).send('click');
  assert.deepEqual(page.frame, data(1, 'click'));
  page.bulkAllowed = true;
  assert.deepEqual(page.frame, data(1, 'bulk', { lane: 1 }));
});

test('frames that were not received are sent again with the same sequences and boundaries', () => {
  const page = Page.connected().send(bytes(250)).send('b').send(bytes(150), 1);
  const before = page.frames;
  assert.deepEqual(dataOf(page.resume().frames), before);
  assert.deepEqual(dataOf(page.resume({ received: [2, 1] }).frames), before.filter(({ lane, sequence }) => sequence! > (lane ? 1 : 2)));
  page.send('c');
  assert.deepEqual(dataOf(page.frames), [data(5, 'c')]);
});

test('frames that were received are not sent again', () => {
  const page = Page.connected().send('a').send('b').send('c').pump().receive(ack(1)).forget();
  assert.deepEqual(dataOf(page.resume({ received: [2, 0] }).frames), [data(3, 'c')]);
  assert.deepEqual(dataOf(page.resume({ received: [3, 0] }).frames), []);
  assert.equal(page.machine.bufferedCharge(0), 0);
});

test('a frame that is acknowledged before it is sent again is not sent again', () => {
  const page = Page.connected().send('A', 1).send('B', 1).forget();
  page.bulkAllowed = false;
  page.resume().forget().receive(ack(0, 1));
  page.bulkAllowed = true;
  assert.deepEqual(page.frame, data(2, 'B', { lane: 1 }));
});
