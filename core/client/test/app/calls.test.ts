// Calls in both directions: every failure, cancellation, bounds, and cuts.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CallError, FAILURES } from '../../src/app/call_error';
import { encodeHead, Kind } from '../../src/app/unit';
import { generator } from '../random';
import { App } from './app_fixture';

const codeOf = (call: Promise<unknown>): Promise<unknown> => call.then(() => 'answered', (error: unknown) => (error instanceof CallError ? error.code : error));

test('a call is answered, in any order', async () => {
  const app = await App.connected();
  const [first, second] = [app.session.call<string>('a', 1), app.session.call('b', { q: 2 })];
  const [a, b] = await app.read();
  assert.deepEqual([a!.kind, a!.name, a!.value, b!.value, b!.id - a!.id], [Kind.Call, 'a', 1, { q: 2 }, 1]);
  assert.ok(a!.id < 2 ** 52);
  await app.give(Kind.Answer, { id: b!.id }, 'second');
  await app.give(Kind.Answer, { id: a!.id }, 'first');
  await app.give(Kind.Answer, { id: a!.id }, 'again');
  assert.deepEqual([await first, await second], ['first', 'second']);
});

for (const [code, failure] of FAILURES.entries()) {
  if (!code) continue;
  test(`a call fails with the code of the server: ${failure}`, async () => {
    const app = await App.connected();
    const rejected = assert.rejects(app.session.call('save', 1), { name: 'CallError', code: failure, message: 'because' });
    const [sent] = await app.read();
    await app.give(Kind.Failure, { id: sent!.id, code }, 'because');
    await rejected;
  });
}

test('a call times out, and its handler is told', async () => {
  const app = await App.connected();
  const code = codeOf(app.session.call('save', 1, { timeout: 500 }));
  const [sent] = await app.read();
  await app.base.advance(499);
  assert.deepEqual(await app.read(), []);
  await app.base.advance(1);
  assert.equal(await code, 'timed-out');
  const [cancel] = await app.read();
  assert.deepEqual([cancel!.kind, cancel!.id], [Kind.Cancel, sent!.id]);
  await app.give(Kind.Answer, { id: sent!.id }, 'late');
  assert.deepEqual(app.errors, []);
});

test('a call is cancelled by its signal', async () => {
  const app = await App.connected();
  const controller = new AbortController();
  const code = codeOf(app.session.call('save', 1, { signal: controller.signal }));
  await app.read();
  controller.abort();
  assert.equal(await code, 'cancelled');
  assert.equal((await app.read())[0]!.kind, Kind.Cancel);
  assert.equal(await codeOf(app.session.call('save', 1, { signal: controller.signal })), 'cancelled');
  assert.deepEqual(await app.read(), []);
});

test('an answer that cannot be decoded fails its call only', async () => {
  const app = await App.connected();
  const code = codeOf(app.session.call('save', 1));
  const [sent] = await app.read();
  await app.giveBytes(new Uint8Array([...encodeHead(Kind.Answer, { id: sent!.id }), 0, 0x7b]));
  assert.equal(await code, 'answer-undecodable');
});

test('calls end with the session, but not if the last message was their answer', async () => {
  const app = await App.connected();
  const answered = codeOf(app.session.call('save', 1));
  const open = codeOf(app.session.call('save', 2));
  const [sent] = await app.read();
  const given = app.give(Kind.Answer, { id: sent!.id }, 'done');
  await app.end();
  await given;
  assert.equal(await answered, 'answered');
  assert.equal(await open, 'over');
  assert.equal(await codeOf(app.session.call('save', 3)), 'over');
});

test('too many calls are refused at once, and one that is too large', async () => {
  const app = await App.connected({ waitingCalls: 2 });
  void app.session.call('a');
  void app.session.call('b');
  assert.equal(await codeOf(app.session.call('c')), 'busy');
  const other = await App.connected();
  assert.equal(((await codeOf(other.session.call('a', 'x'.repeat(6000)))) as Error).name, 'TooLarge');
});

test("the page answers the server's calls, each with its failure", async () => {
  const app = await App.connected();
  const { session } = app;
  session.handle('double', (value: number) => 2 * value);
  session.handle('throw', () => {
    throw new Error('broken');
  });
  session.handle('reject', () => {
    throw new CallError('rejected', 'not today');
  });
  session.handle('nothing', async () => {});
  session.handle('cycle', () => {
    const cycle: unknown[] = [];
    return cycle.push(cycle), cycle;
  });
  for (const [id, name] of ['double', 'throw', 'reject', 'nothing', 'missing', 'cycle'].entries()) await app.give(Kind.Call, { id, credit: 0, name }, 21);
  await app.giveBytes(new Uint8Array([Kind.Call, 9, 0, 6, ...Buffer.from('double'), 77]));
  const answers = (await app.read()).filter(({ kind }) => kind !== Kind.Error);
  assert.deepEqual(answers.map(({ id, kind, code }) => [id, kind === Kind.Answer ? 'answer' : FAILURES[code]]).sort(), [
    [0, 'answer'], [1, 'failed'], [2, 'rejected'], [3, 'answer'], [4, 'missing'], [5, 'failed'], [9, 'undecodable'],
  ]);
  assert.deepEqual(answers.find(({ id }) => id === 0)!.value, 42);
  assert.equal(answers.find(({ id }) => id === 2)!.value, 'not today');
});

test('a handler may call back, and a failure of that call is its own', async () => {
  const app = await App.connected();
  app.session.handle('outer', async () => app.session.call('inner'));
  await app.give(Kind.Call, { id: 1, credit: 0, name: 'outer' });
  const [inner] = await app.read();
  assert.equal(inner!.name, 'inner');
  await app.give(Kind.Failure, { id: inner!.id, code: 3 }, 'nobody');
  const failure = (await app.read()).find(({ kind }) => kind === Kind.Failure)!;
  assert.deepEqual([failure.id, FAILURES[failure.code]], [1, 'failed']);
});

test('a handler of messages may wait for a call', async () => {
  const app = await App.connected();
  const answers: unknown[] = [];
  app.session.onjson = async (value) => answers.push(await app.session.call('ask', value));
  await app.give(Kind.Message, {}, 1);
  const [call] = await app.read();
  await app.give(Kind.Answer, { id: call!.id }, 'answered');
  assert.deepEqual(answers, ['answered']);
});

test('handlers run in bounded number, others wait, and the rest is refused', async () => {
  const app = await App.connected({ runningCalls: 2, waitingCalls: 2 });
  const running: { value: unknown; finish: (answer: unknown) => void; signal: AbortSignal }[] = [];
  app.session.handle('slow', (value, { signal }) => new Promise((finish) => running.push({ value, finish, signal })));
  for (let id = 1; id <= 5; id++) await app.give(Kind.Call, { id, credit: 0, name: 'slow' }, id);
  assert.deepEqual(running.map(({ value }) => value), [1, 2]);
  const [busy] = await app.read();
  assert.deepEqual([busy!.id, FAILURES[busy!.code]], [5, 'busy']);
  await app.give(Kind.Cancel, { id: 1 });
  await app.give(Kind.Cancel, { id: 3 });
  await app.give(Kind.Cancel, { id: 77 });
  assert.ok(running[0]!.signal.aborted && !running[1]!.signal.aborted);
  assert.deepEqual((await app.read()).map(({ id, code }) => [id, FAILURES[code]]), [[1, 'cancelled'], [3, 'cancelled']]);
  running[0]!.finish('nobody waits');
  await app.base.settle();
  assert.deepEqual(running.map(({ value }) => value), [1, 2, 4]);
  await app.end();
  assert.ok(running.every(({ signal }, index) => index === 0 || signal.aborted));
  assert.deepEqual(await app.read(), []);
});

test('a call is executed once over 1,000 cuts', async () => {
  const seed = 1;
  const random = generator(seed);
  const app = await App.connected();
  const executed = new Map<unknown, number>();
  const handled: unknown[] = [];
  app.session.handle('page', (value) => void handled.push(value));
  const answers: Promise<unknown>[] = [];
  for (let round = 0; round < 1000; round++) {
    answers.push(app.session.call('add', round));
    if (random() < 0.5) await app.give(Kind.Call, { id: round, credit: 0, name: 'page' }, round);
    const isLost = random() < 0.5; // the server does not see what was sent before the cut
    const sent = isLost ? [] : await app.read(random() < 0.5);
    await app.cut();
    await app.accept();
    for (const { kind, id, value } of [...sent, ...(await app.read())]) {
      if (kind !== Kind.Call) continue;
      executed.set(value, (executed.get(value) ?? 0) + 1);
      await app.give(Kind.Answer, { id }, value);
    }
  }
  assert.deepEqual(await Promise.all(answers), answers.map((_, index) => index));
  assert.deepEqual([...executed.values()].filter((count) => count !== 1), []);
  assert.equal(executed.size, 1000);
  assert.equal(new Set(handled).size, handled.length);
  assert.ok(handled.length > 400);
});
