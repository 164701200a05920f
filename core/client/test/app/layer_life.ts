// A life of a session with the layer, which uses everything that its pieces have, and what the page
// and the server see of it. A build that shortens too many names changes one of them.

import type * as layer from '../../src/app/index';
import { type Fields, encodeHead, encodeText, Kind } from '../../src/app/unit';
import { withContent } from '../../src/app/value';
import { type Bytes, encode, Type } from '../../src/wire';
import { FakePage } from '../fake_page';
import { accept, encodeData, encodeEnd, ticketOf } from '../fake_server';
import { encodeValue } from './every_piece';

/** What every file with the layer exports. */
export type Layer = Pick<typeof layer, 'AppSession' | 'CallError' | 'attach' | 'connect'>;

/** Returns what was seen of a session, in order. */
export async function layerLife({ AppSession, CallError, attach, connect }: Layer): Promise<unknown[]> {
  const page = new FakePage();
  Object.assign(globalThis, { window: page });
  const { random } = Math;
  // Ids of calls begin with a random number.
  Math.random = () => 0.25;
  const seen: unknown[] = [];
  const note = (name: string) => (...values: unknown[]): void => void seen.push([name, ...values]);
  let [sequence, received] = [0, 0];

  /** Acknowledges what the page has sent, and notes it. */
  const read = async (): Promise<void> => {
    const sent = page.socket.read().filter((frame) => frame[0] === Type.Data);
    received += sent.length;
    seen.push(...sent.map((frame) => Buffer.from(frame.subarray(2)).toString('latin1')));
    page.socket.receive(encode(Type.Ack, [received, 0, 1_000_000, 1_000_000]));
    await page.browser.advance(1);
  };
  const give = async (unit: Bytes): Promise<void> => {
    page.socket.receive(encodeData(++sequence, unit));
    await read();
  };
  const send = (kind: Kind, fields: Fields, value: unknown, codec: layer.Codec = 'json'): Promise<void> => give(encodeValue(encodeHead(kind, fields), value, codec));

  const session = connect(ticketOf('mine'), { outbox: 10_000, onstatus: ({ state, reason }) => note('status')(state, reason), onerror: ({ name, message }) => note('error')(name, message) });
  seen.push(session instanceof AppSession, attach(session.raw, { ontext: note('text') }) === session, session.id);
  await page.browser.settle();
  accept(page.socket);
  await page.browser.settle();
  seen.push(session.connection, session.status, typeof session.renew, session.bufferedAmount('bulk'));

  session.onmessage = note('message');
  session.onjson = note('json');
  session.send('text');
  session.send(new Uint16Array([513]));
  session.sendJson({ big: 2n ** 60n, text: 'ü', none: undefined });
  session.sendJson(new Float32Array([0.5]));
  session.emit('moved', [1]);
  session.emit('left');
  await read();
  await give(withContent([Kind.Text], encodeText('grüße')));
  await give(new Uint8Array([Kind.Bytes, 7]));
  for (const value of [{ big: -(2n ** 60n), list: [1.5, null, true] }, new BigInt64Array([-1n])]) await send(Kind.Message, {}, value);
  const off = session.on('moved', note('moved'));
  await send(Kind.Event, { name: 'moved' }, 1);
  off();
  await send(Kind.Event, { name: 'moved' }, 2);

  const count = session.observable('count', 0);
  const unsubscribe = count.subscribe(note('count'));
  count.set(1);
  count.update((value) => value + 1);
  await read();
  await read();
  await send(Kind.Set, { name: 'count', number: 2 }, 5);
  unsubscribe();
  seen.push(count.value, count.getSnapshot(), count.name);

  const id = 2 ** 50;
  const first = session.call('save', { x: 1 });
  const second = session.call('save', 2, { timeout: 100 }).catch((error: layer.CallError) => [error.name, error.code, error.message, error instanceof CallError]);
  const third = session.call('save').catch((error: layer.CallError) => [error.code, error.message]);
  await read();
  await send(Kind.Answer, { id }, 'saved');
  await give(withContent(encodeHead(Kind.Failure, { id: id + 2, code: 2 }), encodeText('no')));
  await page.browser.advance(200);
  seen.push(await first, await second, await third);
  const stream = session.stream('log', 3);
  const next = stream.next();
  await read();
  await send(Kind.Item, { id: id + 3 }, 'line');
  for (let line = 0; line < 10; line++) await send(Kind.Item, { id: id + 3 }, line);
  seen.push(await next);
  for (let taken = 0; taken < 8; taken++) seen.push(await stream.next());
  await read();
  seen.push(await stream.return!('left'), await stream.next());
  await read();

  session.handle('confirm', (question: number) => question + 1);
  session.handle('refuse', () => Promise.reject(new CallError('rejected', 'not now')));
  session.handle('fail', () => Promise.reject(Object.assign(new TypeError('broken'), { stack: 'stack' })));
  session.handle('count', async function* () {
    yield 'one';
    yield 'two';
    return 'three';
  });
  await send(Kind.Call, { id: 1, credit: 0, name: 'confirm' }, 1);
  await send(Kind.Call, { id: 2, credit: 0, name: 'refuse' }, 1);
  await send(Kind.Call, { id: 3, credit: 0, name: 'fail' }, 1);
  await send(Kind.Call, { id: 4, credit: 1, name: 'count' }, null);
  await give(new Uint8Array(encodeHead(Kind.More, { id: 4, count: 5 })));
  await send(Kind.Call, { id: 5, credit: 0, name: 'nobody' }, null);
  await send(Kind.Call, { id: 6, credit: 0, name: 'count' }, null);

  const board = session.room<string>('board');
  board.onmissed = note('missed');
  board.onout = note('out');
  const unwatch = board.watch(note('members'));
  board.on('draw', note('draw'));
  const joined = board.join('me');
  await read();
  const member = (id: number, state: unknown): object => ({ id, principal: null, away: false, since: 1, state });
  const say = (action: number, value: unknown): Promise<void> => send(Kind.Room, { room: 'board', action }, value);
  await say(0, { version: 5, you: 1, number: 0, first: true, last: true, members: [member(1, 'me'), member(2, 'other')] });
  await joined;
  await say(8, [{ version: 6, change: 'joined', member: member(3, 'new'), number: 0 }, { version: 7, id: 2 }]);
  await say(1, { version: 8, change: 'away', member: { ...member(3, 'new'), away: true }, number: 0 });
  await say(2, { version: 9, id: 3 });
  await send(Kind.RoomEvent, { room: 'board', id: 1, name: 'draw' }, [1, 2]);
  board.setState('later');
  board.send('draw', 'stroke');
  await read();
  seen.push(board.present, board.me, board.name);
  await say(3, 4);
  unwatch();
  board.leave();
  await read();
  await say(4, { reason: 'left', text: '' });

  page.emit('error', { message: 'Uncaught', filename: 'a.js', lineno: 1, colno: 2, error: Object.assign(new Error('broken'), { stack: 'stack' }) });
  await give(new Uint8Array([99]));
  await send(Kind.Message, {}, { deep: [[-5, 1e300]], bytes: new Uint8Array([1]) }, 'messagepack');
  session.sendJson({ packed: [1, -200, 70_000, 2n ** 63n, 0.5, 'ü', true, null], bytes: new Uint8Array([1]) });
  await read();
  const over = session.call('save').catch((error: layer.CallError) => [error.code, error.message]);
  session.ping().catch(({ message }: Error) => note('no pong')(message));
  await read();
  page.socket.receive(encodeEnd(1000, 1, 0, 'done'));
  await page.browser.advance(1);
  session.retry();
  session.close();
  await page.browser.settle();
  Math.random = random;
  return [...seen, await over, ...page.errors];
}
