// Rooms: who is in them, what they say of themselves, and events.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Member, Room } from '../../src/app/room';
import { Kind } from '../../src/app/unit';
import { App, type Sent } from './app_fixture';

const [MEMBERS, MEMBER, LEFT, MISSED, OUT, JOIN, STATE, LEAVE, CHANGES] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

const member = (id: number, state: unknown = null, away = false): Member => ({ id, principal: null, away, since: 1, state });
const list = (version: number, members: Member[], number = 0): object => ({ version, you: 1, number, first: true, last: true, members });
const give = (app: App, action: number, value: unknown): Promise<void> => app.give(Kind.Room, { room: 'board', action }, value);
const asked = (sent: Sent[]): unknown[] => sent.map(({ kind, room, action, id, name, value }) => (kind === Kind.Room ? [room, action, value] : [room, id, name, value]));
const statesOf = (room: Room): unknown[] => room.present.map(({ id, state, away }) => [id, state, away]);

/** Returns a page that is a member of a room with another one, and what it was told. */
async function joined(): Promise<{ app: App; board: Room; seen: unknown[] }> {
  const app = await App.connected();
  app.session.room('another');
  await give(app, MEMBERS, list(5, [member(1, 'a'), member(2, 'b')]));
  const [board, seen]: [Room, unknown[]] = [app.session.room('board'), []];
  board.watch((members, change, about) => void seen.push([members.length, change, about?.id]));
  return { app, board, seen };
}

test('a page sees who joins, goes away, comes back, says something else and leaves', async () => {
  const { app, board, seen } = await joined();
  assert.equal(board.me?.state, 'a');
  await give(app, MEMBER, { version: 6, change: 'joined', member: member(3) });
  await give(app, MEMBER, { version: 7, change: 'away', member: member(3, null, true) });
  const before = board.present;
  await give(app, MEMBER, { version: 8, change: 'back', member: member(3) });
  assert.notEqual(board.present, before);
  await give(app, MEMBER, { version: 9, change: 'state', member: member(3, 'c') });
  assert.deepEqual(statesOf(board), [[1, 'a', false], [2, 'b', false], [3, 'c', false]]);
  await give(app, LEFT, { version: 10, id: 3 });
  assert.deepEqual(seen, [[2, 'members', undefined], [3, 'joined', 3], [3, 'away', 3], [3, 'back', 3], [3, 'state', 3], [2, 'left', 3]]);
});

test('what is older than what the page knows is ignored, and so is a state of a stranger', async () => {
  const { app, board, seen } = await joined();
  await give(app, MEMBER, { version: 7, change: 'away', member: member(2, 'new', true) });
  await give(app, MEMBER, { version: 6, change: 'state', member: member(2, 'old') });
  await give(app, MEMBER, { version: 5, change: 'joined', member: member(9) });
  await give(app, MEMBER, { version: 8, change: 'state', member: member(9) });
  await give(app, LEFT, { version: 4, id: 2 });
  await give(app, LEFT, { version: 9, id: 8 });
  assert.deepEqual(statesOf(board), [[1, 'a', false], [2, 'new', true]]);
  assert.equal(seen.length, 2);
});

test('of several changes at once watchers are told one by one, with the members after all of them', async () => {
  const { app, board, seen } = await joined();
  board.setState('mine');
  await give(app, CHANGES, [
    { version: 6, change: 'joined', member: member(3), number: 0 },
    { version: 7, id: 2 },
    { version: 8, change: 'joined', member: member(2, 'again'), number: 0 },
    { version: 9, change: 'state', member: member(1, 'mine') },
    { version: 4, change: 'away', member: member(3, null, true), number: 0 },
    { version: 10, id: 9 },
  ]);
  assert.deepEqual(statesOf(board), [[1, 'mine', false], [3, null, false], [2, 'again', false]]);
  assert.deepEqual(seen, [[2, 'members', undefined], [2, 'state', 1], [3, 'joined', 3], [3, 'left', 2], [3, 'joined', 2]]);
  await give(app, CHANGES, [{ version: 11, change: 'away', member: member(1, 'old', true), number: 0 }]);
  assert.deepEqual(board.me, { ...member(1, 'mine'), away: true });
});

test('the state that a page has set itself is not applied again, whatever it has set since then', async () => {
  const { app, board } = await joined();
  board.setState('first');
  board.setState('second');
  await give(app, CHANGES, [{ version: 6, change: 'state', member: member(1, 'first') }, { version: 7, change: 'state', member: member(2, 'c'), number: 4 }]);
  assert.deepEqual(statesOf(board), [[1, 'second', false], [2, 'c', false]]);
});

test('a list in parts replaces what was known once it is complete', async () => {
  const { app, board } = await joined();
  await give(app, MEMBERS, { version: 9, first: true, last: false, members: [member(3)] });
  assert.deepEqual(board.present.map(({ id }) => id), [1, 2]);
  await give(app, MEMBERS, { ...list(9, [member(1)]), first: false });
  assert.deepEqual(board.present.map(({ id }) => id), [3, 1]);
});

test('joining, leaving and being out', async () => {
  const app = await App.connected();
  const board = app.session.room('board');
  const out: unknown[] = [];
  board.onout = (reason, text) => out.push([reason, text]);
  assert.throws(() => board.send('draw'), /not a member/);
  const refused = assert.rejects(board.join(), /not today/);
  await give(app, OUT, { reason: 'refused', text: 'not today' });
  await refused;
  const joining = board.join({ x: 1 });
  assert.deepEqual(asked(await app.read()), [['board', JOIN, null], ['board', JOIN, { x: 1 }]]);
  await give(app, MEMBERS, list(1, [member(1, { x: 1 })]));
  await joining;
  board.leave();
  await give(app, OUT, { reason: 'left', text: '' });
  assert.deepEqual(asked(await app.read()), [['board', LEAVE, null]]);
  assert.deepEqual([board.present, board.me, out], [[], undefined, [['refused', 'not today'], ['left', '']]]);
  const over = assert.rejects(board.join(), /over/);
  await app.end();
  await over;
});

test('events go to their handlers with who sent them, and are sent as this member', async () => {
  const { app, board } = await joined();
  const seen: unknown[] = [];
  const stop = board.on<number>('draw', (value, from) => void seen.push([value, from?.state]));
  board.on('draw', () => { throw new Error('broken'); });
  board.onmissed = (count) => seen.push(count);
  await app.give(Kind.RoomEvent, { room: 'board', id: 2, name: 'draw' }, 1);
  await app.give(Kind.RoomEvent, { room: 'board', id: 0, name: 'draw' }, 2);
  await app.give(Kind.RoomEvent, { room: 'board', id: 2, name: 'other' }, 3);
  await give(app, MISSED, 12);
  stop();
  await app.give(Kind.RoomEvent, { room: 'board', id: 2, name: 'draw' }, 4);
  assert.deepEqual(seen, [[1, 'b'], [2, undefined], 12]);
  await app.read();
  board.send('draw', [5]);
  assert.deepEqual(asked(await app.read()), [['board', 1, 'draw', [5]]]);
  assert.ok(app.errors.some((error) => error.includes('room board')));
});

test('of many own states the first and the newest are sent, and older ones of the server ignored', async () => {
  const { app, board } = await joined();
  for (const state of ['c', 'd', 'e']) board.setState(state);
  await give(app, MEMBER, { version: 6, change: 'state', member: member(1, 'by the server'), number: 1 });
  await give(app, MEMBERS, list(7, [member(1, 'b'), member(2, 'b')], 0));
  assert.equal(board.me?.state, 'e');
  const states = (sent: Sent[]): unknown[] => asked(sent.filter(({ kind }) => kind === Kind.Room));
  assert.deepEqual(states(await app.read()), [['board', STATE, { number: 1, version: 5, state: 'c' }]]);
  await app.read();
  assert.deepEqual(states([...(await app.read()), ...(await app.read())]).length, 0);
  await give(app, MEMBER, { version: 8, change: 'state', member: member(1, 'by the server'), number: 3 });
  assert.equal(board.me?.state, 'by the server');
});

test('a page that leaves and joins again at once stays in, also after a renewal', async () => {
  const app = await App.connected();
  const board = app.session.room('board');
  const out: unknown[] = [];
  board.onout = (reason) => out.push(reason);
  const first = board.join('a');
  board.leave();
  const second = board.join('b');
  await give(app, MEMBERS, list(1, [member(1, 'a')]));
  await give(app, OUT, { reason: 'left', text: '' });
  await give(app, MEMBERS, list(3, [member(1, 'b')]));
  await Promise.all([first, second]);
  assert.deepEqual([board.me?.state, out], ['b', []]);
  await app.read();
  await app.cut();
  board.leave();
  await app.accept();
  await give(app, OUT, { reason: 'left', text: '' });
  assert.deepEqual([board.me, out], [undefined, ['left']]);
});

test('in a new membership, the server sets the state of a page that has set one before', async () => {
  const { app, board } = await joined();
  board.setState('c');
  board.leave();
  void board.join('d');
  await app.read();
  await give(app, OUT, { reason: 'left', text: '' });
  await give(app, MEMBERS, list(7, [member(1, 'd')]));
  await give(app, MEMBER, { version: 8, change: 'state', member: member(1, 'by the server'), number: 0 });
  assert.equal(board.me?.state, 'by the server');
});

test('a state belongs to the membership in which the page has set it', async () => {
  const { app, board } = await joined();
  const states = async (): Promise<unknown[]> => asked(await app.read()).filter((told) => (told as unknown[])[1] === STATE);
  board.setState('c');
  assert.deepEqual(await states(), [['board', STATE, { number: 1, version: 5, state: 'c' }]]);
  board.setState('never sent');
  await give(app, OUT, { reason: 'left', text: '' });
  await give(app, MEMBERS, list(9, [member(1, 'by the server')]));
  assert.equal(board.me?.state, 'by the server');
  await app.read();
  assert.deepEqual(await states(), []);
  board.leave();
  void board.join('d');
  board.setState('e');
  assert.deepEqual([...(await states()), ...(await states())], [['board', STATE, { number: 1, version: 0, state: 'e' }]]);
});
