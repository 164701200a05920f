// A page reconnects without waiting when the application asks it to, or its user is active.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { discardIn } from '../src/discard';
import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import { type Bytes } from '../src/wire';
import { answerPosts } from './fake_http';
import { FakePage } from './fake_page';
import { accept, encodeEnd, ticketOf } from './fake_server';

/** A page that lost its connection a while ago, and its session. */
async function waiting(): Promise<{ page: FakePage; session: Session }> {
  const page = new FakePage();
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  accept(page.socket);
  for (let attempt = 0; attempt < 8; attempt += 1) {
    page.socket.lose();
    await page.browser.advance(1501);
  }
  page.socket.lose();
  await page.browser.settle();
  assert.ok(session.status.retryAt! > page.browser.wall + 1000);
  return { page, session };
}

for (const event of ['focus', 'pointerdown', 'keydown', 'online']) {
  test(`${event} makes a page reconnect at once`, async () => {
    const { page, session } = await waiting();
    const before = page.sockets.length;
    page.emit(event);
    assert.equal(page.sockets.length, before + 1);
    accept(page.socket, { incarnation: 1 });
    await page.browser.settle();
    assert.equal(session.status.outcome, 'resumed');
  });
}

test('typing causes at most one attempt a second, and none once the page is connected or its session is over', async () => {
  const { page, session } = await waiting();
  const before = page.sockets.length;
  for (let key = 0; key < 30; key += 1) {
    page.emit('keydown');
    if (page.socket.closedWith === undefined) page.socket.lose();
    await page.browser.advance(10);
  }
  assert.equal(page.sockets.length, before + 1);
  await page.browser.advance(3000);
  accept(page.socket, { incarnation: 1 });
  await page.browser.advance(2000);
  page.socket.read();
  page.emit('keydown');
  assert.deepEqual(page.socket.read(), [], 'not even a ping');
  page.socket.receive(encodeEnd(4102, 2));
  await page.browser.advance(2000);
  const { length } = page.sockets;
  page.emit('keydown');
  session.retry();
  assert.deepEqual([page.sockets.length, session.status.state], [length, 'ended']);
});

test('user activity does not shorten a wait that the server asked for, but retry() does', async () => {
  const page = new FakePage();
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  page.socket.open();
  page.socket.receive(encodeEnd(4202, 0, 60_000));
  page.socket.lose();
  await page.browser.advance(5000);
  page.emit('pointerdown');
  assert.equal(page.sockets.length, 1);
  session.retry();
  assert.equal(page.sockets.length, 2);
  accept(page.socket);
  await page.browser.settle();
  assert.equal(session.status.state, 'connected');
});

test('retry() repeats POSTs that a Retry-After holds back', async () => {
  const page = new FakePage();
  const posts = answerPosts(page);
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  page.socket.lose();
  await page.browser.advance(1000);
  posts[0]!.status(429, { 'retry-after': '3600' });
  await page.browser.advance(10_000);
  assert.equal(posts.length, 1);
  session.retry();
  page.socket.lose();
  await page.browser.advance(1000);
  assert.equal(posts.length, 2);
});

test('a ticket is given back with its secret in a POST that outlives the page', () => {
  const page = new FakePage();
  const posts = answerPosts(page);
  const ticket = ticketOf('spare');
  discardIn(page, ticket);
  const [{ url, operation, options }] = posts as [(typeof posts)[0]];
  assert.deepEqual([url, operation, options.keepalive, page.sockets.length], ['https://example.com/stillhere/spare', 3, true, 0]);
  const body = options.body as Bytes;
  assert.deepEqual([body.length, Buffer.from(body.subarray(21)).toString('base64url')], [53, ticket.secret]);
  discardIn(page, { protocol: 'stillhere.v1', refused: { code: 4201, retryAfter: 1, text: '' } });
  assert.equal(posts.length, 1, 'there is nothing to give back');
});
