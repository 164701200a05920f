// Pages that use some pieces of the layer, and what becomes of what needs the others.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type AppSessionOf, attach, attachOnly, arrays, calls, handlers, MissingPiece, messagePack, observables, pageErrors, rooms, streams } from '../../src/app/index';
import type { Piece } from '../../src/app/piece';
import { Kind } from '../../src/app/unit';
import { OutboxFull } from '../../src/errors';
import { App } from './app_fixture';
import { encodeValue } from './every_piece';

interface Board {
  calls: { save(drawing: string): number };
  observables: { count: number };
}

/** Returns a page with these pieces, and the errors that it was told of. */
async function withPieces(...pieces: Piece[]): Promise<{ app: App; errors: Error[] }> {
  const errors: Error[] = [];
  const app = await App.connected({ onjson: () => {}, onerror: (error) => void errors.push(error) }, pieces);
  return { app, errors };
}

/** Asserts that the page said once that it lacks this piece. */
function assertLacks(errors: Error[], piece: string): void {
  assert.deepEqual(errors.map(({ name, message }) => [name, message]), [['MissingPiece', `This needs the piece "${piece}", which the page has not given to attachOnly().`]]);
  assert.ok(errors[0] instanceof MissingPiece);
}

test('text, bytes, values in JSON and events need no piece', async () => {
  const { app, errors } = await withPieces();
  const seen: unknown[] = [];
  app.session.onmessage = (data) => seen.push([...data]);
  app.session.ontext = (text) => seen.push(text);
  app.session.onjson = (value) => seen.push(value);
  app.session.on('moved', (value) => seen.push(value));
  await app.giveBytes(new Uint8Array([Kind.Bytes, 1]));
  await app.give(Kind.Text, {}, 'text');
  await app.give(Kind.Message, {}, { big: 2n ** 60n });
  await app.give(Kind.Event, { name: 'moved' }, 7);
  app.session.emit('moved', 8);
  assert.deepEqual(seen, [[1], 'text', { big: 2n ** 60n }, 7]);
  assert.deepEqual((await app.read()).map(({ name, value }) => [name, value]), [['moved', 8]]);
  assert.deepEqual(errors, []);
});

test('without handlers, a call of the server is refused at once', async () => {
  const { app, errors } = await withPieces(calls, rooms);
  await app.give(Kind.Call, { id: 5, name: 'confirm', credit: 0 }, 1);
  assert.deepEqual((await app.read()).map(({ kind, id, code, value }) => [kind, id, code, value]), [[Kind.Failure, 5, 3, 'The page has no handlers.']]);
  assertLacks(errors, 'handlers');
});

test('without handlers, a call is refused as soon as there is room in the outbox', async () => {
  const { app } = await withPieces();
  const { raw } = app.session;
  raw.send = () => {
    throw new OutboxFull();
  };
  await app.give(Kind.Call, { id: 5, name: 'confirm', credit: 0 }, 1);
  await app.base.advance(500);
  assert.deepEqual(await app.read(), []);
  delete (raw as Partial<typeof raw>).send;
  await app.base.advance(100);
  assert.deepEqual((await app.read()).map(({ kind, id, code }) => [kind, id, code]), [[Kind.Failure, 5, 3]]);
});

test('a set without observables is an error that names them', async () => {
  const { app, errors } = await withPieces(rooms);
  await app.give(Kind.Set, { name: 'count', number: 0 }, 7);
  assertLacks(errors, 'observables');
});

for (const [kind, fields] of [[Kind.Room, { room: 'board', action: 0 }], [Kind.RoomEvent, { room: 'board', id: 1, name: 'draw' }]] as const) {
  test(`a unit of a room without rooms is an error that names them: ${Kind[kind]}`, async () => {
    const { app, errors } = await withPieces(observables);
    await app.give(kind, fields, {});
    assertLacks(errors, 'rooms');
  });
}

test('a value in MessagePack without that piece is an error that names it', async () => {
  const { app, errors } = await withPieces(arrays);
  await app.giveBytes(encodeValue([Kind.Message], [1], 'messagepack'));
  assertLacks(errors, 'messagePack');
  app.session.sendJson([1]);
  assert.equal((await app.read())[0]!.format, 0); // still JSON
});

test('a numeric array without that piece is an error that names it, in both directions', async () => {
  const { app, errors } = await withPieces(messagePack);
  await app.give(Kind.Message, {}, new Float32Array(2));
  assertLacks(errors, 'arrays');
  assert.throws(() => app.session.sendJson(new Float32Array(2)), MissingPiece);
});

test('a page that chooses MessagePack without that piece is told when it sends', async () => {
  const app = await App.connected({ codec: 'messagepack' }, []);
  assert.throws(() => app.session.sendJson(1), /"messagePack"/);
});

test('an answer that needs a missing piece rejects its call', async () => {
  const { app, errors } = await withPieces(calls);
  const answer = assert.rejects(app.session.call('save'), { code: 'answer-undecodable', message: /"messagePack"/ });
  const { id } = (await app.read())[0]!;
  await app.giveBytes(encodeValue([Kind.Answer, ...varint(id)], 1, 'messagepack'));
  await answer;
  assert.deepEqual(errors, []);
});

test('what belongs to calls that this page has not made is ignored, as with every piece', async () => {
  const { app, errors } = await withPieces();
  await app.give(Kind.Answer, { id: 1 }, 1);
  await app.give(Kind.Failure, { id: 1, code: 1 }, 'text');
  await app.give(Kind.Item, { id: 1 }, 1);
  await app.give(Kind.Cancel, { id: 1 });
  await app.give(Kind.More, { id: 1, count: 1 });
  assert.deepEqual([errors, app.errors, await app.read()], [[], [], []]);
});

test('the console says at most ten times a minute what is missing, and the session continues', async () => {
  const app = await App.connected({ onjson: () => {} }, []);
  for (let unit = 0; unit < 100; unit++) await app.give(Kind.RoomEvent, { room: 'board', id: 1, name: 'draw' }, unit);
  assert.equal(app.errors.length, 10);
  assert.match(app.errors[0]!, /^stillhere: what the server sent was skipped\. MissingPiece: This needs the piece "rooms"/);
  assert.equal(app.session.status.state, 'connected');
});

test('each piece adds its methods and no others', async () => {
  const names = ['call', 'stream', 'handle', 'observable', 'room'];
  const has = async (...pieces: Piece[]): Promise<string[]> => {
    const { app } = await withPieces(...pieces);
    return names.filter((name) => name in app.session);
  };
  assert.deepEqual(await has(), []);
  assert.deepEqual(await has(calls), ['call']);
  assert.deepEqual(await has(streams), ['call', 'stream']);
  assert.deepEqual(await has(handlers), ['handle']);
  assert.deepEqual(await has(observables), ['observable']);
  assert.deepEqual(await has(rooms), ['room']);
  assert.deepEqual(await has(arrays, messagePack, pageErrors), []);
});

test('attachOnly has the types of its pieces, and a session keeps its first pieces', async () => {
  const { base } = new App();
  Object.assign(globalThis, { window: base.page });
  const session = attachOnly(base.session, [calls, observables]);
  const typed: AppSessionOf<[typeof calls, typeof observables], Board> = attachOnly(base.session, [calls, observables]);
  void typed.call('save', 'x').catch(() => {});
  typed.observable('count', 0).set(1);
  // @ts-expect-error wrong query
  void typed.call('save', 1).catch(() => {});
  // @ts-expect-error no such piece
  assert.equal(session.room, undefined);
  // @ts-expect-error no such piece
  assert.equal(session.handle, undefined);
  assert.equal<unknown>(attach(base.session), session);
});

function varint(number: number): number[] {
  const bytes: number[] = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
  return [...bytes, number];
}
