// The types of a contract, which `npm run check` checks: each error must be one.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { AppSession } from '../../src/app/index';
import { Kind } from '../../src/app/unit';
import { App } from './app_fixture';

interface Point {
  x: number;
}

interface Board {
  events: { moved: Point; cleared: null };
  calls: { save(drawing: string): number };
  observables: { count: number };
  message: { chat: string };
}

/** What a contract allows and forbids. */
function typed(session: AppSession<Board>): void {
  session.emit('moved', { x: 1 });
  session.emit('cleared');
  session.on('moved', ({ x }) => x.toFixed());
  session.onjson = ({ chat }) => chat.trim();
  session.handle('save', async (drawing) => drawing.length);
  session.observable('count', 0).update((count) => count + 1);
  // @ts-expect-error no such event
  session.emit('gone');
  // @ts-expect-error no value
  session.emit('moved');
  // @ts-expect-error wrong value
  session.emit('moved', 1);
  // @ts-expect-error wrong parameter
  session.on('moved', (value: string) => value);
  // @ts-expect-error wrong query
  void session.call('save', 1);
  // @ts-expect-error wrong answer
  session.handle('save', () => 'text');
  // @ts-expect-error wrong value
  session.observable('count', 'text');
  // @ts-expect-error wrong message
  session.sendJson(1);
}

test('with a contract, what is received has its type', async () => {
  const app = await App.connected();
  const session = app.session as unknown as AppSession<Board>;
  typed(session);
  await app.read();
  const answer: Promise<number> = session.call('save', 'x');
  const call = (await app.read()).find(({ kind }) => kind === Kind.Call)!;
  await app.give(Kind.Answer, { id: call.id }, 5);
  assert.equal((await answer).toFixed(1), '5.0');
});

test('without a contract, the page says the types', async () => {
  const { session } = await App.connected();
  session.on('moved', ({ x }: Point) => x);
  session.onjson = ({ x }: Point) => x;
  session.handle('save', (query: Point) => query.x);
  const answer: Promise<string> = session.call<string>('save', 1);
  void answer.catch(() => {});
  session.observable('count', 0).set(1);
  session.emit('anything', 'at all');
  assert.ok(session.bufferedAmount() > 0);
});
