// The client reports obstacles between the page and the server, and does not retry them endlessly.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import type { OpenTicket } from '../src/ticket';
import { FakePage, FakeStorage, type PageOptions } from './fake_page';
import { LIMITS, ticketOf } from './fake_server';
import { Box, type Ways } from './model_box';

const BLOCKED: Ways = { webSockets: 'are refused', streams: 'work', posts: 'work' };

class Behind {
  readonly page: FakePage;
  readonly box: Box;
  readonly session: Session;

  constructor(ways: Partial<Ways>, ticket: Partial<OpenTicket> = {}, options: PageOptions = {}) {
    this.page = new FakePage(options);
    this.box = new Box(this.page, { ...BLOCKED, ...ways });
    if (ticket.limits) this.box.welcome = { limits: ticket.limits };
    this.session = new Session(ticketOf('mine', ticket), {}, this.page, EVERY_FEATURE);
  }

  get sizes(): number[] {
    return this.box.posts.map(({ options }) => (options.body as Uint8Array).length);
  }
}

test('POSTs shrink until they pass, on the same connection, and everything arrives', async () => {
  const { box, session, page } = new Behind({});
  box.most = 5000;
  await box.advance(2000);
  for (let sent = 0; sent < 60; sent += 1) session.send(new Uint8Array(900));
  await box.advance(10_000);
  assert.equal(box.received.length, 60);
  assert.deepEqual([session.status.state, session.status.obstacle, page.errors], ['connected', null, []]);
  assert.equal(box.posts.filter(({ operation }) => operation === 1).length, 1);
  assert.ok(box.posts.length < 40, `${box.posts.length} POSTs`);
});

test('a frame that does not pass is reported with the limit that stops it, retried less and less often, and arrives when the limit is raised', async () => {
  const limits = { ...LIMITS, fragment: 60_000, message: 60_000 };
  const behind = new Behind({}, { limits });
  const { box, session, page } = behind;
  box.most = 10_000;
  await box.advance(2000);
  for (let sent = 0; sent < 40; sent += 1) session.send(new Uint8Array(900));
  session.send(new Uint8Array(50_000));
  await box.advance(10_000);
  const { obstacle } = session.status;
  assert.deepEqual([obstacle?.kind, obstacle?.status], ['too-large', 413]);
  assert.match(obstacle!.text, /413 at 50\d\d\d bytes.*client_max_body_size.*fragment/);
  assert.deepEqual(page.errors, [`stillhere: ${obstacle!.text}.`]);

  const before = behind.sizes.filter((size) => size > box.most).length;
  await box.advance(300_000);
  const again = behind.sizes.filter((size) => size > box.most).length - before;
  assert.ok(again >= 3 && again <= 10, `${again} times in five minutes`);
  assert.equal(page.errors.length, 1);

  box.most = Infinity;
  await box.advance(65_000);
  assert.deepEqual([box.received.length, session.status.state, session.status.obstacle], [41, 'connected', null]);
});

const DATE = new Date(1_800_000_000_000 + 30_000);
for (const [retryAfter, least] of [['20', 20_000], [DATE.toUTCString(), 28_000]] as const) {
  test(`Retry-After: ${retryAfter} is obeyed, whatever the user does`, async () => {
    const { box, session, page } = new Behind({ posts: '429' });
    box.retryAfter = retryAfter;
    await box.advance(1000);
    const before = [box.posts.length, page.sockets.length];
    assert.ok(before[0]! > 0);
    await box.advance(least - 1500, () => page.emit('online'));
    assert.deepEqual([box.posts.length, page.sockets.length], before);
    assert.ok(session.status.retryAt! > page.browser.wall);
    box.ways = BLOCKED;
    await box.advance(10_000);
    assert.deepEqual([session.status.state, session.status.obstacle], ['connected', null]);
  });
}

test('after 429 without a Retry-After, requests are made less and less often', async () => {
  const { box } = new Behind({ posts: '429' });
  await box.advance(300_000);
  assert.ok(box.posts.length <= 12, `${box.posts.length} POSTs in five minutes`);
});

for (const streams of ['work', 'are held back'] as const) {
  test(`429 ends the connection and not the session if streams ${streams}`, async () => {
    const { box, session, page } = new Behind({ streams });
    await box.advance(10_000);
    for (let round = 1; round <= 5; round += 1) {
      assert.equal(session.status.state, 'connected');
      box.ways = { ...box.ways, posts: '429' };
      session.send(new Uint8Array(10));
      await box.advance(2000);
      assert.equal(session.status.obstacle?.status, 429);
      box.ways = { ...box.ways, posts: 'work' };
      await box.advance(15_000);
      assert.equal(box.received.length, round);
    }
    assert.equal(session.status.obstacle, null);
    assert.equal(page.errors.length, 1);
    assert.match(page.errors[0]!, /429.*raise the rate limit/);
  });
}

test('if POSTs are refused, a WebSocket is tried at once', async () => {
  const storage = new FakeStorage();
  storage.setItem('stillhere:route', 'polled');
  const { box, session } = new Behind({ webSockets: 'work', posts: '429' }, {}, { storage });
  box.retryAfter = '3600';
  await box.advance(2000);
  assert.deepEqual([session.status.state, session.connection], ['connected', 'websocket']);
});

for (const [posts, text] of [
  ['redirect', /redirect.*log in/],
  ['portal', /text\/html by a captive portal/],
  ['403', /answered 403.*CORS/],
  ['503', /answered 503.*logs of the server/],
  ['429', /answered 429.*rate limit/],
] as const) {
  test(`${posts}: one console line says what it is and what helps, with the address`, async () => {
    const { box, session, page } = new Behind({ posts });
    await box.advance(100);
    assert.deepEqual(page.errors, [], 'once may be a deployment');
    await box.advance(120_000);
    assert.equal(page.errors.length, 1);
    assert.match(page.errors[0]!, text);
    assert.match(page.errors[0]!, /https:\/\/example.com\/stillhere\/mine/);
    assert.match(session.status.obstacle!.text, text);
  });
}
