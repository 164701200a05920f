// Which of the tickets in a page or an answer is the new one, and how it is stored.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import type { OpenTicket, Ticket } from '../src/ticket';
import { FakePage, FakeStorage } from './fake_page';
import { accept, LIMITS, readHello, ticketOf } from './fake_server';
import { Fixture, pageOf, refusedWith, UNKNOWN } from './renewal_fixture';

test('each of several sessions finds its own ticket in the page', async () => {
  const own = [ticketOf('a1'), ticketOf('b1', { restore: 'b' }), ticketOf('a2'), ticketOf('b2', { restore: 'b' })];
  const fresh = [ticketOf('B1', { restore: 'b' }), ticketOf('A1'), ticketOf('B2', { restore: 'b' }), ticketOf('A2')];
  for (const [index, expected] of ['A1', 'B1', 'A2', 'B2'].entries()) {
    const fixture = new Fixture(pageOf(...own), own[index]);
    fixture.answers.push(pageOf(...fresh));
    await fixture.settle();
    await fixture.refuse();
    fixture.accept();
    assert.equal(fixture.session.id, expected);
  }
});

test('a renewed session is restored by a reload, even if others are renewed in another order', async () => {
  const storage = new FakeStorage();
  const own = ['o1', 'o2'].map((name) => ticketOf(name, { restore: 'demo' }));
  const fixture = new Fixture(pageOf(...own), own[0], {}, { storage });
  const second = new Session(own[1]!, {}, fixture.page, EVERY_FEATURE);
  await fixture.settle();
  const [one, two] = fixture.page.sockets as [FakePage['socket'], FakePage['socket']];
  const fresh = ['n1', 'n2'].map((name) => ticketOf(name, { restore: 'demo' }));
  fixture.answers.push(pageOf(...fresh), pageOf(...fresh));
  for (const socket of [two, one]) {
    socket.open();
    socket.receive(UNKNOWN);
    await fixture.settle();
  }
  assert.deepEqual([fixture.session.id, second.id], ['n1', 'n2']);
  const kept = [...storage.items].map(([key, item]) => [key, (JSON.parse(item) as OpenTicket).id]).sort();
  assert.deepEqual(kept, [['stillhere:demo#1:/page?q=1:', 'n2'], ['stillhere:demo:/page?q=1:', 'n1']]);
});

test('after a refused stored ticket the page presents its own, and then a new one', async () => {
  const storage = new FakeStorage();
  const own = ticketOf('own', { restore: 'demo' });
  storage.setItem('stillhere:demo:/page?q=1:', JSON.stringify(ticketOf('old', { restore: 'demo' })));
  const fixture = new Fixture(pageOf(own), own, {}, { storage, navigation: 'reload' });
  fixture.answers.push(pageOf(ticketOf('new', { restore: 'demo' })));
  await fixture.settle();
  const presented: string[] = [];
  for (let number = 1; number <= 2; number += 1) {
    fixture.page.socket.open();
    presented.push(Buffer.from(readHello(fixture.page.socket.read()[0]).secret, 'base64url').toString().slice(0, 3));
    fixture.page.socket.receive(UNKNOWN);
    await fixture.settle();
  }
  assert.deepEqual([...presented, fixture.accept()], ['old', 'own', 'new']);
  assert.equal((JSON.parse(storage.getItem('stillhere:demo:/page?q=1:')!) as OpenTicket).id, 'new');
});

test('messages queued for a ticket with other limits are sent within those of the new one', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  fixture.session.send(new Uint8Array(900));
  fixture.answers.push(pageOf(ticketOf('new', { limits: { ...LIMITS, fragment: 500 } })));
  await fixture.settle();
  await fixture.refuse();
  accept(fixture.page.socket, { limits: { ...LIMITS, fragment: 500 } });
  assert.deepEqual(fixture.page.socket.read().map(({ length }) => length - 2), [500, 400]);
});

const on = (host: string, name: string): OpenTicket => ticketOf(name, { url: `wss://${host}/stillhere/${name}` });
const markup = (element: string, ticket: unknown): string => `<${element} data-stillhere='${JSON.stringify(ticket)}'></${element}>`;

for (const [name, comment] of [
  ['of another origin', on('evil.example', 'bad')],
  ['of the same origin', ticketOf('bad')],
  ['that was refused', refusedWith(4201)],
] as const) {
  test(`a ticket ${name} that somebody has written into the page as an element of another name is not used`, async () => {
    for (const own of [ticketOf('own'), refusedWith(4201)]) {
      const fixture = new Fixture(pageOf(own) + markup('p', comment), own);
      fixture.answers.push(markup('p', comment) + pageOf(ticketOf('new')));
      await fixture.settle();
      if ('refused' in own) await fixture.page.browser.advance(5000);
      else await fixture.refuse();
      await fixture.settle();
      assert.equal(fixture.page.sockets.at(-1)?.url, 'wss://example.com/stillhere/new');
    }
  });
}

for (const [name, own, foreign] of [
  ['the page', ticketOf('own'), on('evil.example', 'bad')],
  ['another server', on('live.example', 'own'), ticketOf('bad')],
  ['the page, without room,', refusedWith(4201), on('evil.example', 'bad')],
  ['the page, by a port', ticketOf('own'), on('example.com:8443', 'bad')],
  ['the page, to no address', ticketOf('own'), ticketOf('bad', { url: 'https://[' })],
] as const) {
  for (const above of [true, false]) {
    test(`of similar elements only those with the origin of the first ticket count: ${name}${above ? ', and one above it' : ''}`, async () => {
      const fixture = new Fixture(markup('div', own), own);
      const fresh = name === 'another server' ? on('live.example', 'new') : ticketOf('new');
      fixture.answers.push(markup('div', foreign) + (above ? markup('div', fresh) : ''));
      await fixture.settle();
      if (name.includes('room')) await fixture.page.browser.advance(5000);
      else await fixture.refuse();
      await fixture.settle();
      assert.equal(fixture.requests.length, 1);
      if (above) assert.equal(fixture.accept(), 'new');
      else {
        assert.equal(fixture.session.status.state, 'refused');
        assert.match(fixture.session.status.text, /none that fits/);
      }
    });
  }
}

test('a script whose ticket was refused because there was no room may get one of another server', async () => {
  const fixture = new Fixture(pageOf(refusedWith(4201)), refusedWith(4201));
  fixture.answers.push(pageOf(on('live.example', 'new')));
  await fixture.page.browser.advance(5000);
  await fixture.settle();
  assert.equal(fixture.accept(), 'new');
});

test('an address of the application may name another server', async () => {
  const fixture = new Fixture('', ticketOf('own'), { from: '/ticket' });
  fixture.answers.push(JSON.stringify(on('live.example', 'new')));
  await fixture.settle();
  await fixture.refuse();
  assert.equal(fixture.accept(), 'new');
});

for (const [name, ticket, options] of [['the page', ticketOf('own'), {}], ['an address', ticketOf('own'), { from: 'ticket' }]] as const) {
  test(`a page opened with a user and a password gets tickets from ${name} without them, and does not reveal the password`, async () => {
    const fixture = new Fixture(pageOf(ticket), ticket, options, { href: 'https://ada:pass%40word@example.com/page?q=//a@b' });
    fixture.answers.push(name === 'the page' ? pageOf(ticketOf('new')) : JSON.stringify(ticketOf('new')));
    await fixture.settle();
    assert.equal(fixture.page.socket.url, 'wss://example.com/stillhere/own');
    await fixture.refuse();
    assert.equal(fixture.page.socket.url, 'wss://example.com/stillhere/new');
    await fixture.page.browser.advance(60_000);
    const addresses = [...new Set(fixture.requests.map(({ address }) => address))];
    assert.deepEqual(addresses, [
      name === 'the page' ? 'https://example.com/page?q=//a@b' : 'https://example.com/ticket',
      'https://example.com/stillhere/new',
    ]);
    assert.match(fixture.session.status.obstacle!.text, /cannot be reached|does not answer/);
    assert.doesNotMatch(JSON.stringify(fixture.statuses) + fixture.page.errors, /pass/);
  });
}

test('no error contains the password of a page', () => {
  const page = new FakePage({ href: 'https://ada:password@example.com/' });
  assert.throws(
    () => new Session(ticketOf('own', { url: 'https://[' }), {}, page, EVERY_FEATURE),
    ({ message }: Error) => /takes the ticket object/.test(message) && !/password/.test(message),
  );
});

for (const body of ['null', '5', '"x"', 'true', '']) {
  test(`a value that is not an object is not a ticket: ${body}`, async () => {
    const fixture = new Fixture('', { from: '/ticket' });
    fixture.answers.push(body);
    await fixture.settle();
    assert.deepEqual([fixture.session.status.state, fixture.session.status.reason], ['refused', 'NoTicket']);
    assert.match(fixture.session.status.text, /no new ticket/);
  });
}

test('a missing ticket is reported as missing, whatever the page has', () => {
  const page = new FakePage();
  page.html = `${pageOf(ticketOf('other'))}<p data-stillhere='{'></p>`;
  assert.throws(() => new Session(undefined as unknown as Ticket, {}, page, EVERY_FEATURE), /takes the ticket object/);
});

test('each of several refused tickets is replaced by the new one at its position', async () => {
  const page = new FakePage();
  const answers: string[] = [];
  Object.assign(page, { fetch: async () => new Response(answers.shift()) });
  const sessions: Session[] = [];
  for (let read = 1; read <= 2; read += 1) {
    // A script runs when the parser reaches it.
    page.html = pageOf(...Array<Ticket>(read).fill(refusedWith(4201)));
    sessions.push(new Session(refusedWith(4201), {}, page, EVERY_FEATURE));
  }
  for (const read of ['a', 'b']) answers.push(pageOf(ticketOf(`${read}1`, { restore: 'one' }), ticketOf(`${read}2`, { restore: 'two' })));
  await page.browser.advance(5000);
  for (let turn = 0; turn < 9; turn += 1) await page.browser.settle();
  assert.deepEqual(sessions.map(({ id }) => id), ['a1', 'b2']);
});

test('a page that is reloaded while there is no room gets its session back once there is', async () => {
  const storage = new FakeStorage();
  storage.setItem('stillhere:demo:/page?q=1:', JSON.stringify(ticketOf('old', { restore: 'demo' })));
  const fixture = new Fixture(pageOf(refusedWith(4201)), refusedWith(4201), {}, { storage, navigation: 'reload' });
  fixture.answers.push(pageOf(ticketOf('new', { restore: 'demo' })));
  await fixture.page.browser.advance(5000);
  await fixture.settle();
  assert.equal(fixture.accept(), 'old');
});

test('a static page is restored after a reload', async () => {
  const storage = new FakeStorage();
  storage.setItem('stillhere:demo:/page?q=1:', JSON.stringify(ticketOf('old', { restore: 'demo' })));
  const fixture = new Fixture('', { from: '/ticket' }, {}, { storage, navigation: 'reload' });
  fixture.answers.push(JSON.stringify(ticketOf('new', { restore: 'demo' })));
  await fixture.settle();
  assert.equal(fixture.accept(), 'old');
});

test('if Trusted Types forbid reading the page, the status says so', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  class DOMParser {
    parseFromString(): never {
      throw new TypeError("This document requires 'TrustedHTML' assignment.");
    }
  }
  Object.assign(fixture.page, { DOMParser });
  fixture.answers.push(pageOf(ticketOf('new')));
  await fixture.settle();
  await fixture.refuse();
  const { state, text } = fixture.session.status;
  assert.equal(state, 'refused');
  assert.match(text, /TrustedHTML/);
});
