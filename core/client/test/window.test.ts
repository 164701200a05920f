// Code that runs again in one window: the same ticket returns the same open session.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { connectIn } from '../src/connect';
import { sharedIn } from '../src/shared';
import { Type } from '../src/wire';
import { FakePage, FakeStorage } from './fake_page';
import { accept, encodeData, encodeEnd, payloadsOf, ticketOf, typesOf } from './fake_server';

const text = (data: Uint8Array): string => Buffer.from(data).toString();

async function connected(): Promise<{ page: FakePage; session: ReturnType<typeof connectIn>; seen: string[] }> {
  const page = new FakePage();
  const seen: string[] = [];
  const session = connectIn(page, ticketOf('mine'), { onmessage: (data) => seen.push(`first ${text(data)}`) });
  await page.browser.settle();
  accept(page.socket);
  page.socket.read();
  return { page, session, seen };
}

test('a ticket presented again gives the same session, whose messages go to the newest handler', async () => {
  const { page, session, seen } = await connected();
  page.socket.receive(encodeData(1, 'a'));
  const states: string[] = [];
  const again = connectIn(page, ticketOf('mine'), {
    onmessage: (data) => seen.push(`second ${text(data)}`),
    onstatus: ({ state }) => states.push(state),
  });
  assert.equal(again, session);
  page.socket.receive(encodeData(2, 'b'));
  await page.browser.settle();
  assert.deepEqual(seen, ['first a', 'second b']);
  assert.deepEqual(states, ['connected'], 'it is told how things stand');
  assert.equal(page.sockets.length, 1);
});

test('a page leaves a session when everybody who connected to it has closed it', async () => {
  const { page, session } = await connected();
  connectIn(page, ticketOf('mine'));
  session.close();
  await page.browser.settle();
  assert.equal(session.status.state, 'connected');
  session.close();
  session.close();
  await page.browser.settle();
  assert.equal(session.status.state, 'ended');
  assert.deepEqual(typesOf(page.socket.read()), [Type.Leave]);
  assert.equal(page.socket.closedWith, 1000);
});

test('code that closes and connects again in one task keeps the session and its messages', async () => {
  const { page, session, seen } = await connected();
  const states: string[] = [];
  session.onstatus = ({ state }) => states.push(state);
  session.close();
  page.socket.receive(encodeData(1, 'a'));
  assert.equal(seen.length, 0);
  assert.equal(connectIn(page, ticketOf('mine'), { onmessage: (data) => seen.push(`second ${text(data)}`) }), session);
  session.send(Buffer.from('b'));
  await page.browser.settle();
  assert.deepEqual(seen, ['second a']);
  assert.deepEqual(payloadsOf(page.socket.read()), ['b']);
  assert.deepEqual(states, []);
  assert.equal(page.sockets.length, 1);
});

test('code that is mounted twice after a reload is restored', async () => {
  const storage = new FakeStorage();
  const mine = ticketOf('mine', { restore: 'demo' });
  storage.setItem('stillhere:demo:/page?q=1:', JSON.stringify(ticketOf('earlier', { restore: 'demo' })));
  const page = new FakePage({ storage, navigation: 'reload' });
  connectIn(page, mine).close();
  const session = connectIn(page, mine);
  await page.browser.settle();
  accept(page.socket, { incarnation: 2 });
  assert.deepEqual([session.id, session.status.outcome, page.sockets.length], ['earlier', 'restored', 1]);
});

test('a session that was closed or is over cannot be joined', async () => {
  const { page, session } = await connected();
  session.close();
  await page.browser.settle();
  const second = connectIn(page, ticketOf('mine'));
  assert.notEqual(second, session);
  await page.browser.settle();
  accept(page.socket);
  page.socket.receive(encodeEnd(4102, 1));
  assert.equal(second.status.state, 'ended');
  assert.notEqual(connectIn(page, ticketOf('mine')), second);
});

test('another ticket, or the same ticket in another window, gives a separate session', async () => {
  const { page, session } = await connected();
  assert.notEqual(connectIn(page, ticketOf('other')), session);
  assert.notEqual(connectIn(new FakePage(), ticketOf('mine')), session);
});

test('a page that goes away right after it closed its session does not store it for a reload', async () => {
  const page = new FakePage();
  const session = connectIn(page, ticketOf('mine', { restore: 'demo' }));
  await page.browser.settle();
  accept(page.socket);
  page.socket.read();
  session.close();
  page.emit('pagehide', { persisted: false });
  assert.deepEqual(typesOf(page.socket.read()), [Type.Leave]);
  assert.equal(page.storage.items.size, 0);
  await page.browser.settle();
  assert.equal(session.status.reason, 'Closed');
});

test('a window whose sessions are closed holds nothing of them', async () => {
  const page = new FakePage();
  for (let visit = 0; visit < 100; visit += 1) {
    const session = connectIn(page, ticketOf(`visit${visit}`, { restore: 'demo' }));
    await page.browser.settle();
    accept(page.socket);
    session.close();
    await page.browser.settle();
  }
  const { sessions, places } = sharedIn(page);
  assert.deepEqual([sessions.size, places.size, page.browser.lockHolders.size, page.storage.items.size], [0, 0, 0, 0]);
  assert.ok(page.sockets.every(({ closedWith }) => closedWith === 1000));
});
