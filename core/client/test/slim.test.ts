// The client that uses no HTTP requests and gets no new tickets.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code } from '../src/codes';
import { connect } from '../src/slim';
import type { OpenTicket, Session } from '../src/slim';
import { FakePage, FakeStorage } from './fake_page';
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

test('a registered kind is no concern of the slim client', async () => {
  const { box, session } = open('work', { connection: 'radio' });
  await box.advance(1000);
  assert.deepEqual([session.connection, session.status.state], ['websocket', 'connected']);
});

test('a ticket to restore is neither kept nor taken', async () => {
  const { page } = open('work', { restore: 'label' });
  const storage = new FakeStorage();
  storage.setItem('stillhere:label:/page?q=1:', JSON.stringify(ticketOf('older', { restore: 'label' })));
  const reloaded = new FakePage({ storage, navigation: 'reload' });
  Object.assign(globalThis, { window: reloaded });
  const session = connect(ticketOf('newer', { restore: 'label' }));
  await reloaded.browser.settle();
  assert.deepEqual([session.id, page.storage.items.size], ['newer', 0]);
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
