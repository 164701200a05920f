// A page with an unusable ticket gets another one, from its own address or from one that the
// application specifies.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { SessionOver } from '../src/errors';
import type { Status } from '../src/status';
import { encode, Type } from '../src/wire';
import { accept, encodeData, encodeEnd, encodeWelcome, payloadsOf, ticketOf, typesOf } from './fake_server';
import { Fixture, pageOf, type Request, UNKNOWN } from './renewal_fixture';

for (const [name, frame] of [
  ['unknown', UNKNOWN],
  ['a duplicate', encodeEnd(4104)],
  ['of a session that no browser had in time', encodeEnd(4102, 4)],
  ['of a session that has finished', encodeEnd(4102, 1)],
  ['of a session that was given up', encodeEnd(4102, 5)],
  ['of a session that a draining server ended', encodeEnd(4200, 8)],
] as const) {
  test(`a page whose own ticket is ${name} gets one new ticket from its own address, and messages sent before go to the new session`, async () => {
    const fixture = new Fixture(pageOf(ticketOf('own')));
    const { page, session, requests, answers } = fixture;
    session.send(Buffer.from('early'));
    answers.push(`<p>…</p>${pageOf(ticketOf('new'))}`);
    await fixture.settle();
    await fixture.refuse(frame);
    session.send(Buffer.from('late'));
    const [{ address, cache, credentials, method, redirect }] = requests as [Request];
    assert.deepEqual(
      { address, cache, credentials, method, redirect },
      { address: 'https://example.com/page?q=1', cache: 'reload', credentials: 'same-origin', method: undefined, redirect: 'manual' },
    );
    assert.equal(page.sockets.length, 2);
    assert.equal(page.socket.url, 'wss://example.com/stillhere/new');
    assert.equal(fixture.accept(), 'new');
    assert.deepEqual(payloadsOf(page.socket.read()), ['early', 'late']);
    assert.deepEqual([session.id, session.status.outcome, session.status.unacknowledged], ['new', 'opened', 0]);
    assert.equal(requests.length, 1);
    assert.ok(fixture.states.every((state) => /^connect(ing|ed)/.test(state)), `${fixture.states}`);
  });
}

test('a page from a cache does not take over the session of another document, but gets its own', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  fixture.answers.push(pageOf(ticketOf('new')));
  await fixture.settle();
  const { socket } = fixture.page;
  socket.open();
  socket.read();
  socket.receive(encode(Type.Offer));
  await fixture.settle();
  assert.deepEqual(typesOf(socket.read()), [], 'no confirm');
  assert.equal(socket.closedWith, 1000);
  assert.equal(fixture.accept(), 'new');
  assert.equal(fixture.session.status.outcome, 'opened');
});

for (const [name, ticket, html, options] of [
  ['whose server chose restore', ticketOf('own', { restore: 'demo' }), pageOf(ticketOf('own', { restore: 'demo' })), {}],
  ['that could get no other ticket', ticketOf('own'), '', {}],
  ['that wants no other', ticketOf('own'), pageOf(ticketOf('own')), { from: null }],
] as const) {
  test(`a page ${name} takes the session that another document had`, async () => {
    const fixture = new Fixture(html, ticket, options);
    await fixture.settle();
    fixture.page.socket.open();
    fixture.page.socket.read();
    fixture.page.socket.receive(encode(Type.Offer));
    assert.deepEqual(typesOf(fixture.page.socket.read()), [Type.Confirm]);
    fixture.page.socket.receive(encodeWelcome({ incarnation: 2 }));
    assert.equal(fixture.session.status.outcome, 'restored');
  });
}

test('a page that loses its session to a restart of the server learns what was lost, and gets nothing of the old session', async () => {
  const fixture = await Fixture.connected(pageOf(ticketOf('own')));
  const { page, session, statuses } = fixture;
  session.send(Buffer.from('lost'));
  session.sendBulk(Buffer.from('lost too'));
  page.socket.lose();
  await page.browser.advance(1000);
  fixture.answers.push(pageOf(ticketOf('new')));
  await fixture.refuse();
  assert.throws(() => session.send(Buffer.from('too early')), { name: 'SessionOver', message: /Unknown.*wait for a new one/ });
  const hello = accept(page.socket);
  assert.deepEqual([hello.incarnation, hello.counts], [0, [0, 0, 8000, 8000]]);
  assert.deepEqual(payloadsOf(page.socket.read()), []);
  const { state, outcome, unacknowledged } = statuses.at(-1)!;
  assert.deepEqual({ state, outcome, unacknowledged }, { state: 'connected', outcome: 'renewed', unacknowledged: 2 });
  session.send(Buffer.from('new'));
  page.socket.receive(encodeData(1, 'hi'));
  assert.deepEqual(payloadsOf(page.socket.read()), ['new']);
  assert.deepEqual(fixture.messages, ['hi']);
  assert.deepEqual([...new Set(fixture.states)], ['reconnecting opened', 'reconnecting opened Unknown', 'connected renewed']);
  page.socket.lose();
  await page.browser.advance(1000);
  accept(page.socket);
  assert.deepEqual([session.status.outcome, session.status.unacknowledged], ['resumed', 0]);
});

test('a draining server gets no request for as long as it asks', async () => {
  const fixture = await Fixture.connected(pageOf(ticketOf('own')));
  fixture.answers.push(pageOf(ticketOf('new')));
  await fixture.refuse(encodeEnd(4200, 8, 20_000));
  assert.equal(fixture.session.status.retryAt, fixture.page.browser.wall + 20_000);
  fixture.page.emit('online');
  await fixture.page.browser.advance(19_999);
  assert.equal(fixture.requests.length, 0);
  await fixture.page.browser.advance(1);
  await fixture.settle();
  assert.equal(fixture.requests.length, 1);
  fixture.accept();
  assert.equal(fixture.session.status.outcome, 'renewed');
});

for (const [name, frame, told] of [
  ['finished', encodeEnd(4102, 1), ['ended', 'Finished']],
  ['was closed by its application', encodeEnd(4102, 2, 0, 'logged out'), ['ended', 'Closed']],
  ['expired', encodeEnd(4102, 5), ['ended', 'Expired']],
  ['was taken over', encodeEnd(4103), ['refused', 'Superseded']],
  ['is forbidden', encodeEnd(4105), ['refused', 'Forbidden']],
] as const) {
  test(`a session that the page had and that ${name} stays over`, async () => {
    const fixture = await Fixture.connected(pageOf(ticketOf('own')));
    await fixture.refuse(frame);
    assert.deepEqual([fixture.session.status.state, fixture.session.status.reason], told);
    await fixture.page.browser.advance(100_000);
    assert.equal(fixture.requests.length, 0);
  });
}

for (const [name, frame] of [['logged out', encodeEnd(4102, 2)], ['aborted', encodeEnd(4102, 3)], ['refused as another user', encodeEnd(4105)], ['whose function panicked', encodeEnd(4102, 9)]] as const) {
  test(`a page that was ${name} before it first connected stays so`, async () => {
    const fixture = new Fixture(pageOf(ticketOf('own')));
    await fixture.settle();
    await fixture.refuse(frame);
    await fixture.page.browser.advance(100_000);
    assert.equal(fixture.requests.length, 0);
  });
}

test('the application decides, given the status that would follow', async () => {
  const never = await Fixture.connected(pageOf(ticketOf('own')));
  never.session.renew = () => false;
  await never.refuse();
  const { state, reason, text } = never.session.status;
  assert.deepEqual({ state, reason, text }, { state: 'refused', reason: 'Unknown', text: 'reload the page for a new session' });
  assert.equal(never.requests.length, 0);

  const always = await Fixture.connected(pageOf(ticketOf('own')));
  const asked: Status[] = [];
  always.session.renew = (status) => !!asked.push(status);
  always.answers.push(pageOf(ticketOf('new')));
  always.session.send(Buffer.from('lost'));
  await always.refuse(encodeEnd(4102, 1, 0, 'bye'));
  const [status] = asked as [Status];
  assert.deepEqual([status.state, status.reason, status.text, status.unacknowledged], ['ended', 'Finished', 'bye', 1]);
  always.accept();
  assert.equal(always.session.status.outcome, 'renewed');
});

for (const [name, options, html] of [
  ['switched off', { from: null }, pageOf(ticketOf('own'))],
  ['of a ticket that does not stand in the page', {}, pageOf(ticketOf('other'))],
] as const) {
  test(`if there is no way to get a new ticket (${name}), the status says what to do`, async () => {
    const fixture = new Fixture(html, ticketOf('own'), options);
    await fixture.settle();
    await fixture.refuse();
    const { state, reason, text } = fixture.statuses.at(-1)!;
    assert.deepEqual({ state, reason, text }, { state: 'refused', reason: 'Unknown', text: 'reload the page for a new session' });
    assert.equal(fixture.requests.length, 0);
  });
}

test('an address of the application gives tickets as JSON, by POST', async () => {
  const fixture = new Fixture('', ticketOf('own'), { from: '/ticket' });
  fixture.answers.push(JSON.stringify(ticketOf('new')));
  await fixture.settle();
  await fixture.refuse();
  const [{ address, method, credentials }] = fixture.requests as [Request];
  assert.deepEqual({ address, method, credentials }, { address: 'https://example.com/ticket', method: 'POST', credentials: 'include' });
  assert.equal(fixture.accept(), 'new');
});

test('a static page gets its first ticket from an address, and then sends what was queued before', async () => {
  const fixture = new Fixture('', { from: '/ticket' });
  const { session } = fixture;
  session.send(new Uint8Array(3000).fill(1));
  assert.equal(session.id, '');
  fixture.answers.push(JSON.stringify(ticketOf('new')));
  await fixture.settle();
  assert.equal(fixture.accept(), 'new');
  assert.deepEqual(fixture.page.socket.read().map(({ length }) => length), [1002, 1002, 1002], 'in fragments of the limits of the ticket');
  assert.deepEqual(fixture.states, ['connected opened']);
});

test('a static page whose address gives no ticket says why', async () => {
  const fixture = new Fixture('', { from: '/ticket' });
  fixture.answers.push(new Response('', { status: 404 }));
  await fixture.settle();
  const { state, reason, text } = fixture.session.status;
  assert.deepEqual([state, reason], ['refused', 'NoTicket']);
  assert.match(text, /example\.com\/ticket: status 404/);
  assert.throws(() => fixture.session.send(Buffer.from('a')), SessionOver);
});

for (const [name, answer, why] of [
  ['has no ticket any more', '<form action=/login></form>', /it has none that fits; perhaps a login/],
  ['redirects', Object.defineProperties(new Response(''), { ok: { value: false }, status: { value: 0 } }), /it redirects; perhaps a login/],
  ['is forbidden', new Response('', { status: 403 }), /status 403/],
  ['has a ticket of another protocol', pageOf(ticketOf('new', { protocol: 'stillhere.v9' })), /takes the ticket object/],
] as const) {
  test(`a page whose address ${name} is refused, says why, and does not ask again`, async () => {
    const fixture = new Fixture(pageOf(ticketOf('own')));
    fixture.answers.push(answer);
    await fixture.settle();
    await fixture.refuse();
    const { state, code, reason, text } = fixture.session.status;
    assert.deepEqual([state, code, reason], ['refused', 4100, 'Unknown']);
    assert.match(text, why);
    await fixture.page.browser.advance(1_000_000);
    assert.equal(fixture.requests.length, 1);
    assert.equal(fixture.page.browser.lockHolders.size, 0);
    assert.throws(() => fixture.session.send(Buffer.from('a')), SessionOver);
  });
}

test('an application whose renew throws still learns how its session ended', async () => {
  const fixture = await Fixture.connected(pageOf(ticketOf('own')));
  fixture.session.renew = () => {
    throw new Error('a mistake');
  };
  await fixture.refuse();
  assert.deepEqual([fixture.session.status.state, fixture.session.status.reason], ['refused', 'Unknown']);
  assert.deepEqual(fixture.states, ['refused opened Unknown']);
  assert.equal(fixture.page.errors.length, 1);
  assert.match(fixture.page.errors[0]!, /renew failed.*a mistake/);
  assert.equal(fixture.requests.length, 0);
});
