// How a session ends, is closed, or is told to wait.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';

import { OutboxFull, SessionOver, TooLarge } from '../src/errors';
import { inflate } from '../src/inflate';
import { Type } from '../src/wire';
import { encodeData, encodeEnd, encodeWelcome, typesOf } from './fake_server';
import { bytes, Fixture, text } from './session_fixture';

test('a ticket of a full server is refused at once, with the time to try again', async () => {
  const refused = { code: 4201, retryAfter: 5000, text: 'too many sessions' };
  const { page, session, statuses } = new Fixture({}, {}, { protocol: 'stillhere.v1', refused });
  const status = { state: 'refused', outcome: null, code: 4201, reason: 'Full', text: refused.text, retryAt: page.browser.wall + 5000, obstacle: null, unacknowledged: 0 };
  assert.deepEqual(session.status, status);
  await page.browser.settle();
  assert.deepEqual(statuses, [status]);
  assert.throws(() => session.send(bytes('a')), SessionOver);
  assert.equal(session.id, '');
  assert.equal(session.bufferedAmount(), 0);
  await assert.rejects(session.ping());
  session.close();
  assert.equal(session.status.state, 'refused');
  assert.equal(page.sockets.length, 0);
});

test('the end from a draining server says when to get a new ticket', async () => {
  const { page, session } = await Fixture.connected();
  page.socket.receive(encodeEnd(4200, 8, 3000));
  await page.browser.settle();
  const { state, reason, retryAt } = session.status;
  assert.deepEqual({ state, reason, retryAt }, { state: 'ended', reason: 'Draining', retryAt: page.browser.wall + 3000 });
});

test('a session taken over by another document is refused and does not come back', async () => {
  const { page, session } = await Fixture.connected();
  session.send(bytes('lost'));
  page.socket.receive(encodeEnd(4103));
  await page.browser.settle();
  const { state, code, reason, unacknowledged } = session.status;
  assert.deepEqual({ state, code, reason, unacknowledged }, { state: 'refused', code: 4103, reason: 'Superseded', unacknowledged: 1 });
  assert.equal(page.browser.lockHolders.size, 0);
  page.emit('online');
  page.emit('pageshow', { persisted: true });
  await page.browser.advance(100_000);
  assert.equal(page.sockets.length, 1);
  assert.equal(page.browser.timers.size, 0);
});

test('an ended session says why and delivers what it had received', async () => {
  const { page, session } = await Fixture.connected();
  session.onmessage = null;
  session.send(bytes('not acknowledged'));
  page.socket.receive(encodeData(1, 'last words'));
  page.socket.receive(encodeEnd(4102, 1, 0, 'bye'));
  const status = { state: 'ended', outcome: 'opened', code: 4102, reason: 'Finished', text: 'bye', retryAt: null, obstacle: null, unacknowledged: 1 };
  assert.deepEqual(session.status, status);
  const seen: string[] = [];
  session.onmessage = (data) => seen.push(text(data));
  await page.browser.settle();
  assert.deepEqual(seen, ['last words']);
  assert.throws(() => session.send(bytes('a')), { name: 'SessionOver', message: /over \(Finished\): reload/ });
  session.close();
  assert.deepEqual(session.status, status);
});

test('errors of send say how much is waiting and what to do', async () => {
  const { session } = new Fixture({}, { outbox: 1000 });
  assert.throws(() => session.send(new Uint8Array(5001)), (error) => error instanceof TooLarge && /5001 bytes.*5000.*parts/.test(error.message));
  session.send(new Uint8Array(900));
  assert.throws(() => session.send(new Uint8Array(100)), (error) => error instanceof OutboxFull && /964 bytes wait.*slow.*Wait until.*drop/.test(error.message));
  session.sendBulk(new Uint8Array(100));
  assert.throws(() => session.send('text' as unknown as ArrayBuffer), /TextEncoder/);
});

test('close leaves, reports it once, and delivers nothing more', async () => {
  const { page, session, messages, statuses } = await Fixture.connected();
  session.onmessage = (data) => {
    messages.push(text(data));
    session.close();
  };
  await page.browser.settle();
  const pong = assert.rejects(session.ping());
  session.send(bytes('last'));
  page.socket.read();
  page.socket.receive(encodeData(1, 'a'));
  page.socket.receive(encodeData(2, 'b'));
  assert.throws(() => session.send(bytes('a')), { name: 'SessionOver', message: /over \(Closed\)/ });
  await page.browser.settle();
  await pong;
  assert.deepEqual(messages, ['a']);
  assert.deepEqual(typesOf(page.socket.read()), [Type.Leave]);
  assert.equal(page.socket.closedWith, 1000);
  assert.deepEqual(statuses.map(({ state, code, reason, unacknowledged }) => [state, code, reason, unacknowledged]), [['ended', 1000, 'Closed', 1]]);
  assert.throws(() => session.send(bytes('a')), SessionOver);
  await page.browser.settle();
  assert.equal(page.browser.lockHolders.size, 0);
  page.emit('online');
  await page.browser.advance(100_000);
  assert.equal(page.sockets.length, 1);
});

test('after close within a handler or during inflation nothing more is delivered', async () => {
  const { page, session } = await Fixture.connected();
  session.onmessage = null;
  const seen: string[] = [];
  for (const sequence of [1, 2]) page.socket.receive(encodeData(sequence, 'a'));
  page.socket.receive(encodeData(1, deflateSync(Buffer.from('bulk')), { lane: 1, compressed: true }));
  session.onmessage = (_data, lane) => {
    seen.push(lane);
    session.close();
  };
  await page.browser.settle();
  assert.deepEqual(seen, ['interactive']);

  const inflating = await Fixture.connected();
  inflating.page.socket.receive(encodeData(1, deflateSync(Buffer.from('a')), { compressed: true }));
  inflating.session.close();
  await inflate(new Uint8Array(deflateSync(Buffer.from('a'))), 1, page);
  await page.browser.settle();
  assert.deepEqual(inflating.messages, []);
});

test('a session closed before it began opens no connection', async () => {
  const { page, session } = new Fixture();
  session.close();
  await page.browser.settle();
  assert.equal(page.sockets.length, 0);
  assert.equal(page.browser.lockHolders.size, 0);
  assert.equal(session.status.state, 'ended');
});

test('a server that asks for a wait of a month gets it, although no timer is that long', async () => {
  const { page } = new Fixture();
  await page.browser.settle();
  page.socket.open();
  page.socket.receive(encodeEnd(4200, 0, 30 * 86_400_000));
  await page.browser.advance(20_000);
  const [timer] = page.browser.timers;
  assert.ok(timer!.at - page.browser.steady < 2 ** 31);
  await page.browser.advance(29 * 86_400_000);
  assert.equal(page.sockets.length, 1);
  await page.browser.advance(86_380_000);
  assert.equal(page.sockets.length, 2);
});

test('a connection that is refused for a while is retried at the time the server gave', async () => {
  const { page, session } = new Fixture();
  await page.browser.settle();
  page.socket.open();
  page.socket.receive(encodeEnd(4202, 0, 3000, 'busy'));
  const { state, reason, text: why, retryAt } = session.status;
  assert.deepEqual({ state, reason, why, retryAt }, { state: 'connecting', reason: 'Busy', why: 'busy', retryAt: page.browser.wall + 3000 });
  await page.browser.advance(3000);
  assert.equal(page.sockets.length, 2);
  page.socket.open();
  page.socket.receive(encodeWelcome());
  assert.equal(session.status.state, 'connected');
});
