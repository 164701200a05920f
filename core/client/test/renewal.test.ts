// A page with an unusable ticket gets another one, from its own address or from one that the
// application specifies.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { SessionOver } from '../src/errors';
import { type Options, Session } from '../src/session';
import type { Status } from '../src/status';
import type { From, OpenTicket, Ticket } from '../src/ticket';
import { Type } from '../src/wire';
import { FakePage, FakeStorage, type PageOptions } from './fake_page';
import { accept, encodeData, encodeEnd, encodeWelcome, LIMITS, payloadsOf, readHello, ticketOf, typesOf } from './fake_server';
import { encode } from '../src/wire';

const UNKNOWN = encodeEnd(4100);

const pageOf = (...tickets: unknown[]): string => tickets.map((ticket) => `<script data-stillhere='${JSON.stringify(ticket)}'></script>`).join('');

interface Request extends RequestInit {
  address: string;
}

/** A page, its session, its requests for tickets and the answers to them. */
class Fixture {
  readonly page: FakePage;
  readonly session: Session;
  readonly requests: Request[] = [];
  /** Answers in order. Without one, the network is down. */
  readonly answers: (string | Response)[] = [];
  readonly statuses: Status[] = [];
  readonly messages: string[] = [];

  constructor(html: string, ticket: Ticket | From = ticketOf('own'), options: Options = {}, pageOptions: PageOptions = {}) {
    this.page = new FakePage(pageOptions);
    this.page.html = html;
    Object.assign(this.page, {
      fetch: async (address: string, options: RequestInit) => {
        this.requests.push({ address, ...options });
        const answer = this.answers.shift();
        if (answer === undefined) throw new TypeError('Failed to fetch');
        return typeof answer === 'string' ? new Response(answer) : answer;
      },
    });
    const onstatus = (status: Status): void => void this.statuses.push(status);
    const onmessage = (data: Uint8Array): void => void this.messages.push(Buffer.from(data).toString());
    this.session = new Session(ticket, { onstatus, onmessage, ...options }, this.page);
  }

  static async connected(html: string, ...rest: [(Ticket | From)?, Options?, PageOptions?]): Promise<Fixture> {
    const fixture = new Fixture(html, ...rest);
    await fixture.settle();
    accept(fixture.page.socket);
    fixture.page.socket.read();
    fixture.statuses.length = 0;
    return fixture;
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn += 1) await this.page.browser.settle();
  }

  /** Refuses the newest connection, at its hello if it has not been welcomed. */
  async refuse(frame = UNKNOWN): Promise<void> {
    this.page.socket.open();
    this.page.socket.receive(frame);
    await this.settle();
  }

  /** Welcomes the newest connection; returns the ticket that it presents. */
  accept(): string {
    return Buffer.from(accept(this.page.socket).secret, 'base64url').toString().replace(/(\D+\d*).*/, '$1').slice(0, 3);
  }

  get states(): string[] {
    return this.statuses.map(({ state, outcome, reason }) => `${state} ${outcome} ${reason}`.trim());
  }
}

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

test('while there is no network, no server or no room, the page asks again, less and less often, and says when', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  const { requests, answers, page, session } = fixture;
  const refused = { protocol: 'stillhere.v1', refused: { code: 4201, retryAfter: 7000, text: 'full' } };
  await fixture.settle();
  await fixture.refuse();
  assert.equal(requests.length, 1);
  assert.equal(session.status.state, 'connecting');
  assert.ok(session.status.retryAt! > page.browser.wall);
  await page.browser.advance(600_000);
  assert.ok(requests.length > 20 && requests.length < 60, `${requests.length} requests in ten minutes`);

  answers.push(new Response('', { status: 503, headers: { 'retry-after': '60' } }), pageOf(refused), pageOf(ticketOf('new')));
  page.emit('online');
  await fixture.settle();
  assert.equal(answers.length, 2, 'a wake ends the pause');
  const before = requests.length;
  page.emit('online');
  await page.browser.advance(59_999);
  assert.equal(requests.length, before, 'but not one that the server asked for');
  await page.browser.advance(1);
  await fixture.settle();
  assert.equal(requests.length, before + 1);
  assert.equal(session.status.retryAt, page.browser.wall + 15_000 * 0.9998 || session.status.retryAt);
  await page.browser.advance(30_000);
  await fixture.settle();
  assert.equal(fixture.accept(), 'new');
});

for (const isWelcomed of [false, true]) {
  test(`a page whose new tickets are all refused stops asking, ${isWelcomed ? 'even if one of them was welcomed for a moment' : 'if its first was refused too'}`, async () => {
    const fixture = new Fixture(pageOf(ticketOf('own')));
    await fixture.settle();
    if (isWelcomed) {
      fixture.answers.push(pageOf(ticketOf('good')));
      await fixture.refuse();
      fixture.accept();
      fixture.requests.length = 0;
    }
    for (let number = 1; number <= 10; number += 1) {
      fixture.answers.push(pageOf(ticketOf(`new${number}`)));
      const { length } = fixture.page.sockets;
      await fixture.refuse();
      while (/connecting/.test(fixture.session.status.state) && fixture.page.sockets.length === length) {
        await fixture.page.browser.advance(1000);
        await fixture.settle();
      }
    }
    assert.equal(fixture.requests.length, 5);
    const { state, reason, text } = fixture.session.status;
    assert.deepEqual([state, reason], ['refused', 'Unknown']);
    assert.match(text, /every new session failed/);
  });
}

test('sessions that are welcomed and end at once are not renewed without a pause', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  await fixture.settle();
  const began = fixture.page.browser.steady;
  let welcomes = 0;
  for (; fixture.page.browser.steady - began < 120_000; welcomes += 1) {
    fixture.accept();
    fixture.answers.push(pageOf(ticketOf(`n${welcomes}`)));
    fixture.page.socket.receive(encodeEnd(4200, 8));
    const { length } = fixture.requests;
    await fixture.settle();
    while (fixture.requests.length === length) await fixture.page.browser.advance(1000);
    await fixture.settle();
  }
  assert.ok(welcomes < 20, `${welcomes} sessions in two minutes`);
});

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
  const second = new Session(own[1]!, {}, fixture.page);
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

test('a session closed while it waits for a ticket does not ask again', async () => {
  const fixture = await Fixture.connected(pageOf(ticketOf('own')));
  fixture.session.send(Buffer.from('lost'));
  await fixture.refuse();
  assert.equal(fixture.requests.length, 1);
  fixture.session.close();
  await fixture.settle();
  const { state, reason, unacknowledged } = fixture.session.status;
  assert.deepEqual({ state, reason, unacknowledged }, { state: 'ended', reason: 'Closed', unacknowledged: 1 });
  await fixture.page.browser.advance(100_000);
  assert.equal(fixture.requests.length, 1);
  assert.equal(fixture.page.browser.timers.size, 0);
});

test('a request that is not answered is given up and repeated', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  const signals: AbortSignal[] = [];
  Object.assign(fixture.page, {
    fetch: (_: string, { signal }: RequestInit) => {
      signals.push(signal!);
      return new Promise((_, refuse) => signal!.addEventListener('abort', () => refuse(new Error('aborted'))));
    },
  });
  await fixture.settle();
  await fixture.refuse();
  await fixture.page.browser.advance(16_000);
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, false]);
  fixture.session.close();
  await fixture.settle();
  assert.ok(signals[1]!.aborted);
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

const refusedWith = (code: number, retryAfter = 5000): Ticket => ({ protocol: 'stillhere.v1', refused: { code, retryAfter, text: `refused with ${code}` } });

for (const [code, reason] of [[4200, 'Draining'], [4201, 'Full']] as const) {
  test(`a page that got no session because of ${reason} asks again when the server says, and then less and less often, until it has one`, async () => {
    const fixture = new Fixture(pageOf(refusedWith(code)), refusedWith(code));
    const { page, session, requests, answers } = fixture;
    const began = page.browser.wall;
    session.send(Buffer.from('early'));
    await fixture.settle();
    assert.deepEqual(fixture.states, [`connecting null ${reason}`]);
    assert.deepEqual([session.status.text, session.status.retryAt], [`refused with ${code}`, began + 5000]);
    await page.browser.advance(4999);
    assert.equal(requests.length, 0);
    const asked: number[] = [];
    for (let full = 1; full <= 10; full += 1) {
      answers.push(pageOf(refusedWith(code)));
      for (let waited = 0; requests.length < full && waited < 31_000; waited += 1) await page.browser.advance(1);
      asked.push(page.browser.wall - began);
      await fixture.settle();
    }
    const waits = asked.map((at, index) => at - (asked[index - 1] ?? 0));
    assert.ok(waits[0] === 5000 && waits.every((wait, index) => wait >= (waits[index - 1] ?? 0) && wait <= 30_000) && waits.at(-1)! > 10_000, `${waits}`);
    answers.push(pageOf(ticketOf('new', { restore: 'demo' })));
    for (let waited = 0; page.sockets.length === 0 && waited < 31_000; waited += 100) await page.browser.advance(100);
    assert.equal(fixture.accept(), 'new');
    assert.deepEqual(payloadsOf(page.socket.read()), ['early']);
    assert.deepEqual([session.status.outcome, session.status.reason], ['opened', '']);
    assert.equal(page.sockets.length, 1);
  });
}

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

test('a page that is Busy for ten minutes connects when there is room', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  const { page, session } = fixture;
  Object.assign(page, { fetch: async (_: string, { method }: RequestInit) => {
    if (method) throw new TypeError('Failed to fetch');
    return new Response(pageOf(ticketOf('new')));
  } });
  await fixture.settle();
  let seen = 0;
  let opened = 0;
  for (let second = 0; second < 600; second += 1) {
    if (page.sockets.length > seen) {
      const isNew = seen === 0 || page.sockets[seen - 1]!.url !== page.socket.url || opened === 0;
      if (isNew) opened = second;
      seen = page.sockets.length;
      const isOver = second - opened >= 30;
      await fixture.refuse(isOver ? encodeEnd(4102, 4) : encodeEnd(4202, 0, 1000));
      if (isOver) opened = 0;
    }
    await page.browser.advance(1000);
    await fixture.settle();
    assert.equal(session.status.state, 'connecting', `${second} s: ${session.status.text}`);
  }
  for (let waited = 0; page.sockets.length === seen && waited < 60; waited += 1) await page.browser.advance(1000);
  fixture.accept();
  assert.equal(session.status.state, 'connected');
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
    () => new Session(ticketOf('own', { url: 'https://[' }), {}, page),
    ({ message }: Error) => /takes the ticket object/.test(message) && !/password/.test(message),
  );
});

test('a request that fails twice in a row is reported once, with what may forbid it, until there is an answer', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  const { page, session, answers } = fixture;
  await fixture.settle();
  await fixture.refuse(encodeEnd(4100, 0, 0, 'unknown here'));
  assert.deepEqual([session.status.text, page.errors], ['unknown here', []], 'once may be chance');
  await page.browser.advance(120_000);
  const { state, text } = session.status;
  assert.equal(state, 'connecting');
  assert.match(text, /^cannot fetch https:\/\/example\.com\/page\?q=1: the network, or connect-src/);
  assert.equal(page.errors.length, 1);
  assert.ok(page.errors[0]!.startsWith(`stillhere: ${text}.`), page.errors[0]);
  assert.equal(fixture.statuses.filter((status) => status.text === text).length, 1);
  answers.push(new Response('', { status: 503 }));
  await page.browser.advance(60_000);
  assert.equal(answers.length, 0);
  assert.deepEqual([session.status.text, page.errors.length], [text, 2], 'it fails again');
  answers.push(new Response('', { status: 503, headers: { 'retry-after': '50' } }));
  for (let waited = 0; answers.length && waited < 31; waited += 1) await page.browser.advance(1000);
  await page.browser.advance(1000);
  assert.equal(session.status.text, 'unknown here');
});

test('a failed fetch is not reported while there is no network', async () => {
  const fixture = new Fixture(pageOf(ticketOf('own')));
  Object.assign(fixture.page.navigator, { onLine: false });
  await fixture.settle();
  await fixture.refuse();
  await fixture.page.browser.advance(120_000);
  assert.deepEqual([fixture.session.status.text, fixture.page.errors], ['', []]);
});

for (const retryAfter of ['5s', {}, null, -5000, [1, 2]]) {
  test(`after a refusal with retryAfter ${JSON.stringify(retryAfter)} the page asks less and less often`, async () => {
    const refused = refusedWith(4201, retryAfter as number);
    const fixture = new Fixture('', { from: '/ticket' });
    for (let answer = 1; answer <= 100; answer += 1) fixture.answers.push(JSON.stringify(refused));
    await fixture.page.browser.advance(60_000);
    assert.ok(fixture.requests.length > 3 && fixture.requests.length < 20, `${fixture.requests.length} requests in a minute`);
    const own = new Fixture(pageOf(refused), refused, { from: null });
    await own.settle();
    assert.ok(Number.isFinite(own.session.status.retryAt), `${own.session.status.retryAt}`);
  });
}

for (const body of ['null', '5', '"x"', 'true', '']) {
  test(`a value that is not an object is not a ticket: ${body}`, async () => {
    const fixture = new Fixture('', { from: '/ticket' });
    fixture.answers.push(body);
    await fixture.settle();
    assert.deepEqual([fixture.session.status.state, fixture.session.status.reason], ['refused', 'NoTicket']);
    assert.match(fixture.session.status.text, /no new ticket/);
  });
}

for (const [name, seconds] of [['a date', 60], ['a date far away', 86_400]] as const) {
  test(`a Retry-After that is ${name} is obeyed, for five minutes at most`, async () => {
    const fixture = new Fixture('', { from: '/ticket' });
    const { page, requests, answers } = fixture;
    answers.push(new Response('', { status: 503, headers: { 'retry-after': new Date(page.browser.wall + seconds * 1000).toUTCString() } }));
    await fixture.settle();
    const wait = Math.min(seconds * 1000, 300_000);
    assert.equal(fixture.session.status.retryAt, page.browser.wall + wait);
    await page.browser.advance(wait - 1);
    assert.equal(requests.length, 1);
    await page.browser.advance(1);
    assert.equal(requests.length, 2);
  });
}

test('a missing ticket is reported as missing, whatever the page has', () => {
  const page = new FakePage();
  page.html = `${pageOf(ticketOf('other'))}<p data-stillhere='{'></p>`;
  assert.throws(() => new Session(undefined as unknown as Ticket, {}, page), /takes the ticket object/);
});

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

test('each of several refused tickets is replaced by the new one at its position', async () => {
  const page = new FakePage();
  const answers: string[] = [];
  Object.assign(page, { fetch: async () => new Response(answers.shift()) });
  const sessions: Session[] = [];
  for (let read = 1; read <= 2; read += 1) {
    // A script runs when the parser reaches it.
    page.html = pageOf(...Array<Ticket>(read).fill(refusedWith(4201)));
    sessions.push(new Session(refusedWith(4201), {}, page));
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

for (const [name, options, renew] of [['wants no other', { from: null }, undefined], ['decides against it', {}, () => false]] as const) {
  test(`a page that got no session and ${name} learns when to try again`, async () => {
    const fixture = new Fixture(pageOf(refusedWith(4201)), refusedWith(4201), options);
    if (renew) fixture.session.renew = renew;
    await fixture.settle();
    assert.deepEqual(fixture.states, ['refused null Full']);
    assert.equal(fixture.session.status.retryAt, fixture.page.browser.wall + 5000);
    await fixture.page.browser.advance(100_000);
    assert.equal(fixture.requests.length, 0);
    assert.throws(() => fixture.session.send(Buffer.from('a')), SessionOver);
  });
}

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
