// The client that uses no HTTP requests and gets no new tickets.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code } from '../src/codes';
import { connect, registerConnection } from '../src/slim';
import type { ConnectionHandlers, OpenTicket, Session } from '../src/slim';
import { FakePage } from './fake_page';
import { accept, ticketOf } from './fake_server';
import { Box, type WebSockets } from './model_box';

function open(webSockets: WebSockets, ticket: Partial<OpenTicket> = {}): { page: FakePage; box: Box; session: Session } {
  const page = new FakePage();
  const box = new Box(page, { webSockets, streams: 'work', posts: 'work' });
  Object.assign(globalThis, { window: page });
  return { page, box, session: connect(ticketOf('mine', ticket)) };
}

test('where WebSockets are blocked, the page says so and makes no request', async () => {
  const { box, page, session } = open('are refused');
  await box.advance(20_000);
  const { state, obstacle } = session.status;
  assert.deepEqual([state, obstacle?.kind, session.connection, box.posts.length], ['connecting', 'unreachable', 'websocket', 0]);
  assert.match(obstacle!.text, /mine cannot be reached, or WebSockets do not get through$/);
  assert.ok(page.sockets.length > 5, `${page.sockets.length} attempts`);
  box.ways = { ...box.ways, webSockets: 'work' };
  await box.advance(5000);
  assert.deepEqual([session.status.state, session.status.obstacle], ['connected', null]);
});

test('a registered kind that is not answered twice yields to WebSockets, until the page retries', async () => {
  const { box, page, session } = open('work', { connection: 'silent radio' });
  const tried: ConnectionHandlers[] = [];
  registerConnection('silent radio', (handlers) => {
    tried.push(handlers);
    return { send() {}, close() {} };
  });
  await box.advance(25_000);
  assert.deepEqual([tried.length, session.connection, session.status.state], [2, 'websocket', 'connected']);
  page.socket.lose();
  await box.advance(1000);
  assert.deepEqual([tried.length, session.status.state], [2, 'connected']);
  session.retry();
  page.socket.lose();
  await box.advance(1000);
  assert.deepEqual([tried.length, session.connection], [3, 'silent radio']);
});

test('a session that the server has forgotten is over', async () => {
  const page = new FakePage();
  Object.assign(globalThis, { window: page });
  const session = connect(ticketOf('mine'));
  await page.browser.settle();
  accept(page.socket);
  await page.browser.settle();
  page.socket.lose(Code.Unknown);
  await page.browser.advance(60_000);
  const { state, reason, text } = session.status;
  assert.deepEqual([state, reason, text], ['refused', 'Unknown', 'reload the page for a new session']);
  assert.equal(page.sockets.length, 1);
  assert.throws(() => session.send(new Uint8Array()), /reload the page for a new one/);
});
