// Streamed answers: order, back-pressure, cancellation, and every way to end.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CallError } from '../../src/app/call_error';
import { encodeHead, Kind } from '../../src/app/unit';
import { App } from './app_fixture';

test('items arrive in order, and the answer ends the stream', async () => {
  const app = await App.connected();
  const stream = app.session.stream<number>('count', 3);
  const [call] = await app.read();
  assert.deepEqual([call!.name, call!.credit, call!.value], ['count', 16, 3]);
  const first = stream.next(); // waits
  for (const value of [1, 2]) await app.give(Kind.Item, { id: call!.id }, value);
  await app.give(Kind.Answer, { id: call!.id }, 'all');
  await app.give(Kind.Item, { id: call!.id }, 'late');
  assert.deepEqual([await first, await stream.next(), await stream.next()], [{ done: false, value: 1 }, { done: false, value: 2 }, { done: true, value: 'all' }]);
  assert.deepEqual(await stream.return!(), { done: true, value: undefined });
  assert.deepEqual(await app.read(), []);
});

test('the server may send as much as the page has taken', async () => {
  const app = await App.connected();
  const stream = app.session.stream('count');
  const [call] = await app.read();
  for (let value = 0; value < 16; value++) await app.give(Kind.Item, { id: call!.id }, value);
  assert.deepEqual(await app.read(), []);
  for (let value = 0; value < 7; value++) await stream.next();
  assert.deepEqual(await app.read(), []);
  await stream.next();
  const more = await app.read();
  assert.deepEqual(more.map(({ kind, id, count }) => [kind, id, count]), [[Kind.More, call!.id, 8]]);
  for (let value = 0; value < 8; value++) await stream.next();
  assert.deepEqual((await app.read()).map(({ count }) => count), [8]);
});

test('leaving the loop cancels the call', async () => {
  const app = await App.connected();
  const loop = (async () => {
    for await (const item of app.session.stream('count')) return item;
    return;
  })();
  const [call] = await app.read();
  await app.give(Kind.Item, { id: call!.id }, 'only');
  assert.equal(await loop, 'only');
  assert.deepEqual((await app.read()).map(({ kind, id }) => [kind, id]), [[Kind.Cancel, call!.id]]);
});

test('a stream that fails gives its items first, then the error, then nothing', async () => {
  const app = await App.connected();
  const stream = app.session.stream('count');
  const [call] = await app.read();
  await app.give(Kind.Item, { id: call!.id }, 1);
  await app.give(Kind.Failure, { id: call!.id, code: 2 }, 'enough');
  assert.deepEqual(await stream.next(), { done: false, value: 1 });
  await assert.rejects(stream.next(), { code: 'rejected', message: 'enough' });
  assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test('a stream ends by its signal, by its time, with its session, and for an item that is wrong', async () => {
  const app = await App.connected();
  const controller = new AbortController();
  const aborted = assert.rejects(app.session.stream('a', 1, { signal: controller.signal }).next(), { code: 'cancelled' });
  const late = assert.rejects(app.session.stream('b', 1, { timeout: 50 }).next(), { code: 'timed-out' });
  const over = assert.rejects(app.session.stream('c').next(), { code: 'over' });
  const wrong = assert.rejects(app.session.stream('d').next(), { code: 'answer-undecodable' });
  const calls = await app.read();
  controller.abort();
  await app.base.advance(50);
  await app.giveBytes(new Uint8Array([...encodeHead(Kind.Item, { id: calls[3]!.id }), 0, 0x7b]));
  await app.end();
  await Promise.all([aborted, late, over, wrong]);
  await assert.rejects(app.session.stream('e').next(), { code: 'over' });
});

test('a handler that is a generator streams its items as the server wants them', async () => {
  const app = await App.connected();
  let made = 0;
  app.session.handle('count', async function* (to: number) {
    while (made < to) yield ++made;
    return 'all';
  });
  await app.give(Kind.Call, { id: 7, credit: 2, name: 'count' }, 5);
  const items = await app.read();
  assert.deepEqual(items.map(({ kind, id, value }) => [kind, id, value]), [[Kind.Item, 7, 1], [Kind.Item, 7, 2]]);
  assert.equal(made, 2);
  await app.giveBytes(new Uint8Array(encodeHead(Kind.More, { id: 7, count: 9 })));
  const rest = await app.read();
  assert.deepEqual(rest.map(({ kind, value }) => [kind, value]), [[Kind.Item, 3], [Kind.Item, 4], [Kind.Item, 5], [Kind.Answer, 'all']]);
});

test('a stream of the page ends when the server cancels, and fails when its generator does', async () => {
  const app = await App.connected();
  let left = 0;
  app.session.handle('numbers', async function* () {
    try {
      for (let number = 1; ; number++) yield number;
    } finally {
      left += 1;
    }
  });
  app.session.handle('throws', async function* () {
    yield 1;
    throw new CallError('rejected', 'enough');
  });
  await app.give(Kind.Call, { id: 1, credit: 3, name: 'numbers' }, null);
  assert.equal((await app.read()).length, 3);
  await app.giveBytes(new Uint8Array(encodeHead(Kind.Cancel, { id: 1 })));
  assert.deepEqual((await app.read()).map(({ kind, code }) => [kind, code]), [[Kind.Failure, 5]]);
  assert.equal(left, 1);
  await app.give(Kind.Call, { id: 2, credit: 3, name: 'throws' }, null);
  assert.deepEqual((await app.read()).map(({ kind, code }) => [kind, code]), [[Kind.Item, 0], [Kind.Failure, 2]]);
  await app.give(Kind.Call, { id: 3, credit: 0, name: 'numbers' }, null);
  assert.deepEqual((await app.read()).map(({ kind, code }) => [kind, code]), [[Kind.Failure, 7]]);
});
