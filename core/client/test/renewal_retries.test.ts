// When a page asks again for a ticket, and when it stops.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { SessionOver } from '../src/errors';
import { encodeEnd, payloadsOf, ticketOf } from './fake_server';
import { Fixture, pageOf, refusedWith } from './renewal_fixture';

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
