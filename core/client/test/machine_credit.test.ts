import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code } from '../src/codes';
import { OutboxFull, TooLarge } from '../src/machine';
import { ack, bytes, data, LIMITS, Page, welcomeFrame } from './page';
import { encodeFrame } from './wire_model';

const more = { more: true };

function assertEnded(page: Page, code: Code): void {
  const { type, code: told } = page.events.at(-1)!;
  assert.deepEqual({ type, told }, { type: 'ended', told: code });
}

/** Returns the credit of the interactive lane in the next counts. */
const credit = (page: Page): number => page.advance(200).forget().receive({ type: 'ping', nonce: 0, received: [0, 0], credit: [100_000, 100_000] }).frame.credit![0];

test('nothing is sent beyond the credit', () => {
  const page = Page.connected({}, { credit: [164 + 65, 0] }).send(bytes(100)).send('b').send('c').send('d', 1);
  assert.deepEqual(page.frames.map(({ sequence }) => sequence), [1, 2]);
  assert.deepEqual(page.receive(ack(0, 0, [164 + 65 + 64, 64])).frames, []);
  assert.deepEqual(page.receive(ack(0, 0, [164 + 65 + 65, 65])).frames.map(({ payload }) => payload), ['63', '64']);
});

test('a frame sent again is not charged again', () => {
  const page = Page.connected({}, { credit: [130, 0] }).send('a').send('b').send('c');
  assert.equal(page.frames.length, 2);
  assert.deepEqual(page.resume({ credit: [130, 0] }).frames.map(({ sequence }) => sequence).filter(Boolean), [1, 2]);
  assert.deepEqual(page.receive(ack(1, 0, [195, 0])).frames.map(({ sequence }) => sequence), [3]);
});

test('a frame beyond the reported credit is a flood', () => {
  const limits = { ...LIMITS, window: 164 * 4 };
  const page = Page.connected({ limits });
  for (let sequence = 1; sequence <= 4; sequence++) page.receive(data(sequence, bytes(100)));
  assert.equal(page.machine.phase, 'connected');
  page.forget().receive(data(5, ''));
  assertEnded(page, Code.Flood);
  assert.deepEqual(page.frames, [{ type: 'leave' }]);
  assert.deepEqual(page.action, { type: 'close', connection: 1, code: Code.Flood });
});

test('credit that was granted but not reported does not allow more', () => {
  const limits = { ...LIMITS, window: 164 * 4 };
  const page = Page.connected({ limits });
  for (let sequence = 1; sequence <= 4; sequence++) page.receive(data(sequence, bytes(100)));
  page.forget().take();
  page.machine.release(0, page.now);
  page.machine.handleFrame(1, Uint8Array.of(0x40, 5), page.now);
  assertEnded(page, Code.Flood);
  const told = Page.connected({ limits });
  for (let sequence = 1; sequence <= 4; sequence++) told.receive(data(sequence, bytes(100)));
  told.takeAll();
  assert.equal(told.pump().receive(data(5, '')).machine.phase, 'connected');
});

test('the credit of a message returns when its handler has returned', () => {
  const page = Page.connected().receive(data(1, 'a'), data(2, 'b'));
  assert.equal(credit(page), 2000);
  page.take();
  assert.equal(credit(page), 2000);
  page.release();
  assert.equal(credit(page), 2065);
  page.release();
  assert.equal(credit(page), 2065);
  page.takeAll();
  assert.equal(credit(page), 2130);
});

test('fragments that arrive while no message waits return their credit at once', () => {
  const page = Page.connected().receive(data(1, bytes(100), more), data(2, bytes(100), more));
  assert.equal(credit(page), 2328);
  page.receive(data(3, 'c'));
  assert.equal(credit(page), 2328);
  page.takeAll();
  assert.equal(credit(page), 2393);
});

test('fragments that arrive while messages wait hold their credit until the last of those is released', () => {
  const page = Page.connected().receive(data(1, 'a'), data(2, 'b'), data(3, bytes(100), more), data(4, bytes(100), more));
  page.take();
  page.release().take();
  assert.equal(credit(page), 2065);
  page.receive(data(5, bytes(100), more));
  assert.equal(credit(page), 2065);
  page.release();
  assert.equal(credit(page), 2000 + 2 * 65 + 3 * 164);
  page.receive(data(6, bytes(100), more));
  assert.equal(credit(page), 2000 + 2 * 65 + 4 * 164);
});

test('fragments that still hold credit when their message completes hold it until the message is released', () => {
  const page = Page.connected().receive(data(1, 'a'), data(2, bytes(100), more), data(3, 'c'));
  page.take();
  page.release();
  assert.equal(credit(page), 2065);
  page.take();
  page.release();
  assert.equal(credit(page), 2065 + 164 + 65);
});

test('a message larger than the window completes', () => {
  const limits = { ...LIMITS, message: 10_000, window: 700 };
  const page = Page.connected({ limits });
  for (let sequence = 1; sequence < 100; sequence++) page.receive(data(sequence, bytes(100), more));
  assert.equal(page.receive(data(100, bytes(100))).take()?.length, 10_000);
});

test('the two lanes have their own credit', () => {
  const page = Page.connected().receive(data(1, 'a', { lane: 1 }));
  page.takeAll(1);
  assert.deepEqual(page.advance(200).frames.at(-1)!.credit, [2000, 1065]);
});

test('an acknowledgement of frames that were never sent is malformed', () => {
  assertEnded(Page.connected().receive(ack(1)), Code.Malformed);
  assertEnded(Page.connected().send('a').pump().receive(ack(0, 1)), Code.Malformed);
  const unsent = Page.connected({}, { credit: [65, 0] }).send('a').send('b').pump();
  assertEnded(unsent.receive(ack(2)), Code.Malformed);
});

test('an acknowledgement that decreases is malformed', () => {
  assertEnded(Page.connected().send('a').send('b').pump().receive(ack(2), ack(1)), Code.Malformed);
  assertEnded(Page.connected().send('a').pump().receive(ack(1)).resume({ received: [0, 0] }), Code.Malformed);
});

test('credit that decreases is malformed', () => {
  assertEnded(Page.connected().receive(ack(0, 0, [99_999, 100_000])), Code.Malformed);
  assertEnded(Page.connected().receive(ack(0, 0, [100_000, 99_999])), Code.Malformed);
});

test('a newer connection may acknowledge what an older one sent', () => {
  const page = Page.connected().send('a').send('b').pump().resume({ received: [2, 0] });
  assert.equal(page.machine.phase, 'connected');
  assert.equal(page.machine.unacknowledgedMessages(), 0);
  const later = Page.connected().send('a').send('b').pump().lose().open();
  later.machine.handleFrame(later.connection, encodeFrame(welcomeFrame()), later.now);
  assert.equal(later.machine.pollTransmit(later.connection, true, later.now)?.at(-1), 'a'.charCodeAt(0));
  assert.equal(later.receive(ack(2)).machine.phase, 'connected');
});

test('unreported counts are sent along with data', () => {
  const page = Page.connected().receive(data(1, 'ho')).send('hi');
  const [first, second, ...rest] = page.frames;
  assert.deepEqual([first!.type, first!.received, second, rest], ['ack', [1, 0], data(1, 'hi'), []]);
  assert.deepEqual(page.send('again').frame, data(2, 'again'));
});

test('unreported counts are sent along with data at most once in 20 milliseconds', () => {
  const page = Page.connected().receive(data(1, 'a')).send('b').forget().receive(data(2, 'c'));
  assert.deepEqual(page.advance(19).send('d').frame, data(2, 'd'));
  const [first, second, ...rest] = page.advance(1).send('e').frames;
  assert.deepEqual([first!.type, first!.received, second, rest], ['ack', [2, 0], data(3, 'e'), []]);
});

test('counts are reported as soon as they amount to a quarter of the window', () => {
  const page = Page.connected().receive(data(1, bytes(100)), data(2, bytes(100)), data(3, bytes(100)));
  assert.deepEqual(page.frames, []);
  assert.deepEqual(page.receive(data(4, '')).frame.received, [4, 0]);
  const bulk = Page.connected().receive(data(1, bytes(100), { lane: 1 }));
  assert.deepEqual(bulk.frames, []);
  assert.deepEqual(bulk.receive(data(2, bytes(22), { lane: 1 })).frame.received, [0, 2]);
});

test('returned credit is also reported at a quarter of the window', () => {
  const page = Page.connected();
  for (let sequence = 1; sequence <= 4; sequence++) page.receive(data(sequence, bytes(100)));
  page.forget();
  for (let taken = 0; taken < 3; taken++) {
    page.take();
    assert.deepEqual(page.release().frames, []);
  }
  page.take();
  assert.deepEqual(page.release().frame.credit, [2000 + 4 * 164, 1000]);
});

test('any other change is reported 200 milliseconds after the first', () => {
  const page = Page.connected().receive(data(1, 'a')).advance(150).receive(data(2, 'b')).advance(49);
  assert.deepEqual(page.frames, []);
  assert.deepEqual(page.advance(1).frame, { type: 'ack', received: [2, 0], credit: [2000, 1000] });
  page.take();
  page.release().advance(150).take();
  assert.equal(page.release().machine.pollTimeout(), page.now + 50);
  page.advance(49);
  assert.deepEqual(page.frames, []);
  assert.deepEqual(page.advance(1).frame.credit, [2130, 1000]);
});

test('counts that any frame has carried are not written again', () => {
  const page = Page.connected().receive(data(1, 'a'), { type: 'ping', nonce: 1, received: [0, 0], credit: [100_000, 100_000] });
  assert.deepEqual(page.frame.received, [1, 0]);
  assert.deepEqual(page.advance(1000).frames, []);
  page.receive(data(2, 'b')).resume().forget();
  assert.deepEqual(page.advance(1000).frames, []);
});

test('counts that changed between hello and welcome are reported', () => {
  const page = Page.connected().receive(data(1, bytes(100))).lose().open().forget();
  page.takeAll();
  page.receive(welcomeFrame());
  assert.deepEqual(page.advance(200).frame.credit, [2164, 1000]);
});

test('a message is admitted when it fits the outbox or its lane is empty', () => {
  const page = Page.connected({ outbox: 328 }, { credit: [0, 0] }).send(bytes(100)).send(bytes(100));
  assert.throws(() => page.send(''), OutboxFull);
  assert.equal(page.machine.bufferedCharge(0), 328);
  assert.equal(page.machine.unacknowledgedMessages(), 2);
  page.send(bytes(1000), 1);
  assert.equal(page.machine.bufferedCharge(1), 10 * 164);
  assert.throws(() => page.send('', 1), OutboxFull);
});

test('an acknowledgement makes room in the outbox', () => {
  const page = Page.connected({ outbox: 328 }).send(bytes(200)).pump();
  assert.throws(() => page.send(''), OutboxFull);
  page.receive(ack(1));
  assert.deepEqual([page.machine.bufferedCharge(0), page.machine.unacknowledgedMessages()], [164, 1]);
  page.send(bytes(100)).pump().receive(ack(3));
  assert.deepEqual([page.machine.bufferedCharge(0), page.machine.unacknowledgedMessages()], [0, 0]);
});

test('a message above the message limit is refused at once', () => {
  const page = Page.connected();
  assert.throws(() => page.send(bytes(1001)), TooLarge);
  assert.deepEqual(page.frames, []);
  assert.equal(page.send(bytes(1000)).frames.length, 10);
});

test('a long queue keeps its order', () => {
  const page = Page.connected({ outbox: 1e9 }, { credit: [1e9, 1e9] });
  for (let sequence = 1; sequence <= 1000; sequence++) {
    page.send(`${sequence}`).pump();
    if (sequence % 3 === 0) page.receive(ack(sequence - 2, 0, [1e9, 1e9]));
  }
  assert.deepEqual(page.frames.filter(({ type }) => type === 'data').map(({ sequence }) => sequence), Array.from({ length: 1000 }, (_, index) => index + 1));
  assert.equal(page.machine.unacknowledgedMessages(), 3);
});
