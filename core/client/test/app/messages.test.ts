// Messages and events, and what becomes of units that are wrong.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Kind } from '../../src/app/unit';
import { App } from './app_fixture';
import { encodeValue } from './every_piece';

test('bytes, text and values arrive as what they were sent', async () => {
  const seen: unknown[] = [];
  const app = await App.connected({
    onmessage: (data) => seen.push(data),
    ontext: (text) => seen.push(text),
    onjson: (value) => seen.push(value),
  });
  await app.giveBytes(new Uint8Array([Kind.Bytes, 1, 2]));
  await app.give(Kind.Text, {}, 'grüße');
  await app.give(Kind.Message, {}, { big: 2n ** 60n });
  assert.deepEqual(seen, [new Uint8Array([1, 2]), 'grüße', { big: 2n ** 60n }]);
  assert.equal((seen[0] as Uint8Array).byteOffset, 0);
  app.session.send('text');
  app.session.send(new Uint8Array([9]));
  app.session.sendJson([1]);
  assert.deepEqual((await app.read()).map(({ kind, value }) => [kind, value]), [[Kind.Text, 'text'], [Kind.Bytes, new Uint8Array([9])], [Kind.Message, [1]]]);
  assert.throws(() => app.session.send({} as never), TypeError);
});

test('the page sends in the format of the server, unless it has chosen one', async () => {
  for (const [options, expected] of [[{}, [0, 1]], [{ codec: 'json' as const }, [0, 0]], [{ codec: 'messagepack' as const }, [1, 1]]] as const) {
    const app = await App.connected({ onjson: () => {}, ...options });
    app.session.sendJson([1]);
    await app.give(Kind.Text, {}, '\u{1}');
    await app.give(Kind.Failure, { id: 1, code: 1 }, '\u{1}');
    app.session.sendJson([2]);
    await app.giveBytes(encodeValue([Kind.Message], { x: 1 }, 'messagepack'));
    await app.give(Kind.Message, {}, 'JSON again');
    app.session.sendJson([3]);
    const sent = await app.read();
    assert.deepEqual(sent.map(({ format }) => format), [expected[0], expected[0], expected[1]]);
    assert.deepEqual(sent.map(({ value }) => value), [[1], [2], [3]]);
  }
});

test('units wait until the page says what it wants of them', async () => {
  const app = await App.connected();
  await app.give(Kind.Event, { name: 'moved' }, 1);
  const seen: unknown[] = [];
  app.session.on('moved', (value) => seen.push(value));
  await app.base.settle();
  assert.deepEqual(seen, [1]);
});

test('an event goes to every handler of its name, until it is removed', async () => {
  const app = await App.connected();
  const seen: string[] = [];
  const remove = app.session.on('moved', (value: number) => seen.push(`a${value}`));
  app.session.on('moved', (value: number) => seen.push(`b${value}`));
  await app.give(Kind.Event, { name: 'moved' }, 1);
  remove();
  await app.give(Kind.Event, { name: 'moved' }, 2);
  await app.give(Kind.Event, { name: 'other' }, 3);
  assert.deepEqual(seen, ['a1', 'b1', 'b2']);
  assert.deepEqual(app.errors, []);
  app.session.emit('clicked', { x: 1 });
  app.session.emit('left');
  assert.deepEqual((await app.read()).map(({ name, value }) => [name, value]), [['clicked', { x: 1 }], ['left', null]]);
});

test('a wrong unit is skipped, and the console says so at a limited rate', async () => {
  const seen: unknown[] = [];
  const app = await App.connected({ onjson: (value) => seen.push(value) });
  for (let round = 0; round < 30; round++) await app.giveBytes(new Uint8Array([99]));
  await app.giveBytes(new Uint8Array([Kind.Message, 0, 0x7b]));
  await app.give(Kind.Message, {}, 'next');
  assert.deepEqual(seen, ['next']);
  assert.equal(app.errors.length, 10);
  const errors: Error[] = [];
  app.session.onerror = (error) => void errors.push(error);
  await app.giveBytes(new Uint8Array([Kind.Event, 1, 255]));
  assert.equal(errors[0]!.name, 'Undecodable');
  assert.equal(app.session.status.state, 'connected');
});

test('a handler that fails is reported to the server, and the next message follows', async () => {
  const app = await App.connected();
  app.session.on('moved', (value: number) => {
    if (value === 1) throw new Error('off the board');
  });
  app.session.on('moved', async (value: number) => {
    if (value === 2) throw new Error('later');
  });
  for (const value of [1, 2, 3]) await app.give(Kind.Event, { name: 'moved' }, value);
  const reports = (await app.read()).filter(({ kind }) => kind === Kind.Error).map(({ value }) => value as { message: string; source: string; stack: string });
  assert.deepEqual(reports.map(({ message, source }) => [message, source]), [['off the board', 'event moved'], ['later', 'event moved']]);
  assert.match(reports[0]!.stack, /off the board/);
  assert.equal(app.errors.length, 2);
});

test("the page's errors reach the server, at a limited rate and size", async () => {
  const app = await App.connected();
  const { page } = app.base;
  page.emit('error', { message: 'x', error: new Error('ü'.repeat(5000)), filename: 'app.js', lineno: 3, colno: 7 });
  page.emit('unhandledrejection', { reason: 'no reason' });
  page.emit('error', {}); // an image that did not load
  const [error, rejection, ...rest] = (await app.read()).map(({ value }) => value as Record<string, string>);
  assert.deepEqual(rest, []);
  assert.equal(error!['source'], 'app.js:3:7');
  assert.equal(error!['message'], 'ü'.repeat(512));
  assert.ok(Buffer.byteLength(JSON.stringify(error)) < 4300);
  assert.deepEqual(rejection, { message: 'no reason', source: 'unhandledrejection' });
  for (let round = 0; round < 50; round++) page.emit('unhandledrejection', { reason: round });
  assert.equal((await app.read()).length, 8);
  app.base.page.browser.pass(60_001);
  page.emit('unhandledrejection', { reason: 'again' });
  assert.equal((await app.read()).length, 1);
});

test('errors stay in the page if it chooses so', async () => {
  const app = await App.connected({ reportErrors: false });
  app.base.page.emit('unhandledrejection', { reason: 'mine' });
  assert.deepEqual(await app.read(), []);
});

test('a message without a hook is dropped with a word, and nothing waits for it', async () => {
  const app = await App.connected();
  const seen: unknown[] = [];
  app.session.on('moved', (value) => seen.push(value));
  await app.give(Kind.Text, {}, 'lost');
  await app.give(Kind.Event, { name: 'moved' }, 1);
  assert.deepEqual(seen, [1]);
  assert.match(app.errors[0]!, /ontext is not set/);
});
