// A session when its page is hidden, put to sleep, cached, prerendered or left.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { encode, Type } from '../src/wire';
import { FakePage } from './fake_page';
import { accept, readHello, ticketOf, typesOf } from './fake_server';
import { Fixture } from './session_fixture';

test('a page that leaves says so, and one that comes back resumes', async () => {
  const { page, session, statuses } = await Fixture.connected({}, {}, ticketOf('mine', { restore: 'demo' }));
  assert.equal(page.browser.lockHolders.get('stillhere:mine'), page);
  page.emit('pagehide', { persisted: true });
  assert.deepEqual(typesOf(page.socket.read()), [Type.Leave]);
  assert.equal(page.socket.closedWith, 1000);
  await page.browser.settle();
  assert.equal(page.browser.lockHolders.size, 0);
  assert.equal(session.status.state, 'paused');

  page.emit('pageshow', { persisted: true });
  page.sockets[0]!.lose(1000);
  await page.browser.settle();
  assert.equal(page.browser.lockHolders.get('stillhere:mine'), page);
  assert.equal(page.sockets.length, 2);
  const hello = accept(page.socket);
  assert.deepEqual([hello.incarnation, hello.attempt], [1, 2]);
  assert.deepEqual(statuses.map(({ state }) => state), ['paused', 'reconnecting', 'connected']);
});

test('a page whose session is not kept for a reload holds no lock and answers no other page', async () => {
  for (const options of [{}, { withoutLocks: true }]) {
    const { page } = await Fixture.connected(options);
    await page.browser.settle();
    assert.deepEqual([page.browser.lockHolders.size, page.browser.channels.size], [0, 0]);
  }
});

test('a page that comes back says hello even if another document holds its lock', async () => {
  const { page } = await Fixture.connected({}, {}, ticketOf('mine', { restore: 'demo' }));
  page.emit('pagehide', { persisted: true });
  await page.browser.settle();
  page.browser.lockHolders.set('stillhere:mine', new FakePage());
  page.emit('pageshow', { persisted: true });
  await page.browser.settle();
  page.socket.open();
  assert.equal(readHello(page.socket.read()[0]).attempt, 2);
});

test('the first pageshow of a page does not count as a return', async () => {
  const { page } = await Fixture.connected();
  page.emit('pageshow', { persisted: false });
  assert.deepEqual(page.socket.read(), []);
});

for (const [name, wake] of [
  ['online', (page: FakePage) => page.emit('online')],
  ['resume', (page: FakePage) => page.document.dispatchEvent(new Event('resume'))],
  [
    'visible',
    (page: FakePage) => {
      page.setHidden(true);
      page.setHidden(false);
    },
  ],
] as const) {
  test(`${name} probes a live connection and ends the wait for the next attempt`, async () => {
    const { page } = await Fixture.connected();
    wake(page);
    assert.deepEqual(typesOf(page.socket.read()), [Type.Ping]);
    page.socket.lose();
    await page.browser.settle();
    assert.equal(page.sockets.length, 1);
    wake(page);
    assert.equal(page.sockets.length, 2);
  });
}

test('a page that stays hidden for longer than the session is kept rests, and tries again when shown', async () => {
  const { page, session } = await Fixture.connected();
  page.setHidden(true);
  page.refusal = new Error('no network');
  page.socket.lose();
  await page.browser.advance(130_000);
  assert.deepEqual([session.status.state, session.status.retryAt], ['paused', null]);
  const { size } = page.browser.timers;
  assert.ok(size <= 1);
  page.refusal = undefined;
  page.setHidden(false);
  assert.equal(page.sockets.length, 2);
  assert.equal(session.status.state, 'reconnecting');
});

test('a page that was hidden from the start rests as well', async () => {
  const { page, session } = await Fixture.connected({ hidden: true });
  page.refusal = new Error('no network');
  page.socket.lose();
  await page.browser.advance(130_000);
  assert.equal(session.status.state, 'paused');
});

test('a computer that slept suspects its connection even if its steady clock stood still', async () => {
  const { page } = await Fixture.connected();
  await page.browser.advance(20_000);
  const { socket } = page;
  assert.deepEqual(socket.read(), []);
  page.browser.sleep(60_000);
  await page.browser.advance(15_000);
  assert.deepEqual(typesOf(socket.read()), [Type.Ping]);
  page.browser.sleep(60_000);
  await page.browser.advance(5000);
  assert.equal(socket.closedWith, 4301);
});

test('frames that arrived during sleep are handled before a deadline is judged', async () => {
  const { page } = await Fixture.connected();
  page.emit('online');
  const { socket } = page;
  page.browser.sleep(60_000);
  page.browser.pass(5000);
  const [timer] = page.browser.timers;
  page.browser.timers.clear();
  timer!.run();
  socket.receive(encode(Type.Pong, [1, 0, 0, 1_000_000, 1_000_000]));
  await page.browser.settle();
  assert.equal(socket.closedWith, undefined);
});

test('a prerendered page connects when it is activated', async () => {
  const { page } = new Fixture({ prerendering: true });
  await page.browser.settle();
  assert.equal(page.sockets.length, 0);
  assert.equal(page.browser.lockHolders.size, 0);
  page.document.dispatchEvent(new Event('prerenderingchange'));
  await page.browser.settle();
  assert.equal(page.sockets.length, 1);
});
