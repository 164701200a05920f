// How a session connects, exchanges messages and recovers.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';

import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import type { Status } from '../src/status';
import type { Ticket } from '../src/ticket';
import { encode, Type } from '../src/wire';
import { FakePage } from './fake_page';
import { accept, encodeData, encodeEnd, payloadsOf, readNumbers, ticketOf, typesOf } from './fake_server';
import { bytes, Fixture, text } from './session_fixture';

test('a page says hello on one binary WebSocket with our subprotocol and is connected by the welcome', async () => {
  const { page, session, statuses } = new Fixture();
  assert.equal(session.status.state, 'connecting');
  await page.browser.settle();
  const { url, protocol, binaryType } = page.socket;
  assert.deepEqual({ url, protocol, binaryType }, { url: 'wss://example.com/stillhere/mine', protocol: 'stillhere.v1', binaryType: 'arraybuffer' });
  const hello = accept(page.socket);
  assert.deepEqual(hello, {
    secret: ticketOf('mine').secret,
    document: '07'.repeat(16),
    incarnation: 0,
    attempt: 1,
    counts: [0, 0, 8000, 8000],
  });
  assert.deepEqual(statuses, [{ state: 'connected', outcome: 'opened', code: 0, reason: '', text: '', retryAt: null, obstacle: null, unacknowledged: 0 }]);
  assert.equal(session.status, statuses[0]);
  assert.equal(session.id, 'mine');
  assert.equal(page.sockets.length, 1);
});

test('the hello contains the secret decoded from base64url', async () => {
  const secret = Buffer.alloc(32, Buffer.of(0xfb, 0xef, 0xff)).toString('base64url');
  assert.match(secret, /-.*_/);
  const { page } = new Fixture({}, {}, ticketOf('mine', { secret }));
  await page.browser.settle();
  assert.equal(accept(page.socket).secret, secret);
});

test('a relative url is resolved against the option url and http becomes ws', async () => {
  const { page } = new Fixture({}, { url: 'http://other.example:8080/app/stillhere/client.js' }, ticketOf('mine', { url: 'mine' }));
  await page.browser.settle();
  assert.equal(page.socket.url, 'ws://other.example:8080/app/stillhere/mine');
});

test('a relative url is resolved against the page, as the src of its scripts is', async () => {
  for (const [page, url, connected] of [
    [{ href: 'https://example.com/unknown/prefix/' }, './stillhere/mine', 'wss://example.com/unknown/prefix/stillhere/mine'],
    [{ href: 'https://example.com/prefix/pages/one?q=1' }, '../stillhere/mine', 'wss://example.com/prefix/stillhere/mine'],
    [{ base: 'http://base.example/app/' }, './stillhere/mine', 'ws://base.example/app/stillhere/mine'],
    [{ href: 'about:srcdoc', base: 'https://example.com/frames/' }, '/stillhere/mine', 'wss://example.com/stillhere/mine'],
  ] as const) {
    const fixture = new Fixture(page, {}, ticketOf('mine', { url }));
    await fixture.settle();
    assert.equal(fixture.page.socket.url, connected);
  }
});

test('an invalid ticket is refused with a text that says what to do', () => {
  const faulty = [
    undefined,
    null,
    JSON.stringify(ticketOf('mine')),
    {},
    ticketOf('mine', { protocol: 'stillhere.v2' }),
    ticketOf('mine', { secret: 'c2hvcnQ' }),
    ticketOf('mine', { secret: '%' }),
    ticketOf('mine', { url: 'https://' }),
  ];
  for (const ticket of faulty) {
    const open = (): unknown => new Session(ticket as Ticket, {}, new FakePage(), EVERY_FEATURE);
    assert.throws(open, /connect\(\) takes the ticket object that the server made.*Reload.*stillhere\.v1.*url/, JSON.stringify(ticket));
  }
});

test('messages sent before the welcome follow it in order', async () => {
  const { page, session } = new Fixture();
  session.send(bytes('a'));
  session.send(bytes('b').buffer.slice(0, 0) as ArrayBuffer);
  session.sendBulk(new DataView(Uint8Array.of(33, 99, 33).buffer, 1, 1));
  await page.browser.settle();
  accept(page.socket);
  assert.deepEqual(payloadsOf(page.socket.read()), ['a', '', 'c']);
});

test('a message is delivered within the event that brings it', async () => {
  const { page, messages } = await Fixture.connected();
  page.socket.receive(encodeData(1, 'a'));
  page.socket.receive(encodeData(1, 'b', { lane: 1 }));
  assert.deepEqual(messages, ['interactive a', 'bulk b']);
});

test('messages wait until there is a handler and are then delivered in a task of their own', async () => {
  const { page, session, messages } = await Fixture.connected();
  const { onmessage } = session;
  session.onmessage = null;
  page.socket.receive(encodeData(1, 'a'));
  page.socket.receive(encodeData(2, 'b'));
  session.onmessage = onmessage;
  assert.deepEqual(messages, []);
  await page.browser.settle();
  assert.deepEqual(messages, ['interactive a', 'interactive b']);
});

test('a promise blocks its lane and no other, and its message is credited when it settles', async () => {
  const { page, session } = await Fixture.connected();
  const seen: string[] = [];
  const settle: (() => void)[] = [];
  session.onmessage = (data, lane) => {
    seen.push(text(data));
    return lane === 'interactive' ? new Promise<void>((resolve) => settle.push(resolve)) : undefined;
  };
  await page.browser.settle();
  page.socket.receive(encodeData(1, 'a'));
  page.socket.receive(encodeData(2, 'b'));
  page.socket.receive(encodeData(1, 'bulk', { lane: 1 }));
  assert.deepEqual(seen, ['a', 'bulk']);
  await page.browser.advance(200);
  assert.deepEqual(readNumbers(page.socket.read()[0]!.subarray(1)), [2, 1, 8000, 8068]);
  settle[0]!();
  await page.browser.settle();
  assert.deepEqual(seen, ['a', 'bulk', 'b']);
  await page.browser.advance(200);
  assert.deepEqual(readNumbers(page.socket.read()[0]!.subarray(1)), [2, 1, 8065, 8068]);
});

test('a handler that throws or rejects is reported, and the next message follows', async () => {
  const { page, session } = await Fixture.connected();
  const seen: string[] = [];
  session.onmessage = (data) => {
    seen.push(text(data));
    if (seen.length === 1) throw new Error('first');
    if (seen.length === 2) return Promise.reject(new Error('second'));
    return undefined;
  };
  await page.browser.settle();
  for (const [index, content] of ['a', 'b', 'c'].entries()) page.socket.receive(encodeData(index + 1, content));
  await page.browser.settle();
  assert.deepEqual(seen, ['a', 'b', 'c']);
  assert.equal(page.errors.length, 2);
  assert.match(page.errors[0]!, /onmessage failed.*first/);
  assert.match(page.errors[1]!, /onmessage failed.*second/);
});

test('a compressed message is inflated, and those after it wait', async () => {
  const { page, session } = await Fixture.connected();
  const seen: string[] = [];
  const done = new Promise<void>((resolve) => {
    session.onmessage = (data) => {
      seen.push(text(data).slice(0, 5));
      if (seen.length === 2) resolve();
    };
  });
  await page.browser.settle();
  page.socket.receive(encodeData(1, deflateSync(Buffer.alloc(20_000, 'large')), { compressed: true }));
  page.socket.receive(encodeData(2, 'small'));
  assert.deepEqual(seen, []);
  await done;
  assert.deepEqual(seen, ['large', 'small']);
});

test('a compressed message above the limit ends the session and is not delivered', async () => {
  const { page, session, messages } = await Fixture.connected();
  const ended = new Promise<Status>((resolve) => (session.onstatus = resolve));
  page.socket.receive(encodeData(1, deflateSync(Buffer.alloc(20_001)), { compressed: true }));
  const { state, reason } = await ended;
  assert.deepEqual({ state, reason }, { state: 'ended', reason: 'TooLarge' });
  assert.deepEqual(typesOf(page.socket.read()), [Type.Leave]);
  assert.equal(page.socket.closedWith, 4108);
  assert.deepEqual(messages, []);
});

test('many messages are delivered in slices of about 8 ms, between which the page runs other tasks', async () => {
  const { page, session } = await Fixture.connected();
  const seen: string[] = [];
  session.onmessage = null;
  for (let sequence = 1; sequence <= 20; sequence++) page.socket.receive(encodeData(sequence, `${sequence}`));
  session.onmessage = (data) => {
    seen.push(text(data));
    page.browser.pass(1);
  };
  const slices: number[] = [];
  while (seen.length < 20) {
    const before = seen.length;
    assert.equal(page.browser.tasks.length, 1);
    page.browser.tasks.shift()!();
    slices.push(seen.length - before);
  }
  assert.deepEqual(slices, [8, 8, 4]);
  assert.deepEqual(seen, Array.from({ length: 20 }, (_, index) => `${index + 1}`));
});

test('a message that a handler sends goes out at once, and no handler runs inside another', async () => {
  const { page, session } = await Fixture.connected();
  const seen: string[] = [];
  session.onmessage = null;
  page.socket.receive(encodeData(1, 'a'));
  page.socket.receive(encodeData(1, 'b', { lane: 1 }));
  page.socket.read();
  session.onmessage = (data) => {
    seen.push(`begin ${text(data)}`);
    session.send(data);
    seen.push(`sent ${payloadsOf(page.socket.read()).join()}`, `end ${text(data)}`);
  };
  await page.browser.settle();
  assert.deepEqual(seen, ['begin a', 'sent a', 'end a', 'begin b', 'sent b', 'end b']);
});

test('a ping is answered before the handlers run', async () => {
  const { page, session } = await Fixture.connected();
  session.onmessage = null;
  page.socket.receive(encodeData(1, 'a'));
  let sentBefore: number[] = [];
  session.onmessage = () => void (sentBefore = typesOf(page.socket.read()));
  page.socket.receive(encode(Type.Ping, [5, 0, 0, 1_000_000, 1_000_000]));
  assert.deepEqual(sentBefore, [Type.Pong]);
});

test('bulk waits while the socket holds 64 KiB, interactive does not, and one timer looks again', async () => {
  const { page, session } = await Fixture.connected();
  page.socket.bufferedAmount = 65_536;
  session.sendBulk(bytes('slow'));
  session.send(bytes('click'));
  assert.deepEqual(payloadsOf(page.socket.read()), ['click']);
  await page.browser.advance(20);
  assert.deepEqual(payloadsOf(page.socket.read()), []);
  assert.equal(page.browser.timers.size, 1);
  page.socket.bufferedAmount = 65_535;
  await page.browser.advance(20);
  assert.deepEqual(payloadsOf(page.socket.read()), ['slow']);
});

test('bufferedAmount counts each lane by its charge until it is acknowledged', async () => {
  const { page, session } = await Fixture.connected();
  session.send(bytes('1234'));
  session.sendBulk(bytes('12'));
  assert.deepEqual([session.bufferedAmount(), session.bufferedAmount('interactive'), session.bufferedAmount('bulk')], [134, 68, 66]);
  page.socket.receive(encode(Type.Ack, [1, 0, 1_000_000, 1_000_000]));
  assert.deepEqual([session.bufferedAmount(), session.bufferedAmount('interactive'), session.bufferedAmount('bulk')], [66, 0, 66]);
});

test('after a cut the page resumes and sends again what the server has not received', async () => {
  const { page, session, statuses } = await Fixture.connected();
  session.send(bytes('a'));
  session.send(bytes('b'));
  page.socket.receive(encodeData(1, 'x'));
  page.socket.lose();
  await page.browser.advance(500);
  assert.equal(page.sockets.length, 2);
  const hello = accept(page.socket, { received: [1, 0] });
  assert.deepEqual([hello.incarnation, hello.attempt, hello.counts[0]], [1, 2, 1]);
  assert.deepEqual(payloadsOf(page.socket.read()), ['b']);
  assert.deepEqual(
    statuses.map(({ state, outcome, code }) => [state, outcome, code]),
    [
      ['reconnecting', 'opened', 1006],
      ['connected', 'resumed', 0],
    ],
  );
});

test('the time of the next attempt is given on the wall clock and removed when the attempt begins', async () => {
  const { page, session, statuses } = await Fixture.connected();
  const lostAt = page.browser.wall;
  page.browser.steady += 1 / 3;
  page.socket.receive(encodeEnd(4302));
  page.socket.lose(4302);
  await page.browser.settle();
  const [waiting] = statuses;
  assert.deepEqual([waiting?.state, waiting?.code, waiting?.reason], ['reconnecting', 4302, 'Replaced']);
  assert.equal(waiting?.retryAt, lostAt + 250);
  await page.browser.advance(250);
  assert.equal(page.sockets.length, 2);
  assert.equal(session.status.retryAt, null);
});

test('onstatus is called once per change and not once per attempt', async () => {
  const { page, session, statuses } = await Fixture.connected();
  const times = new Set();
  for (let second = 0; second < 60; second += 1) {
    page.socket.lose();
    await page.browser.advance(1000);
    times.add(session.status.retryAt);
  }
  assert.deepEqual(statuses.map(({ state, obstacle }) => [state, obstacle?.kind]), [['reconnecting', undefined], ['reconnecting', 'unreachable']]);
  assert.ok(times.size > 5, 'when the next attempt is due can be asked for');
});

test('frames and the close of an older socket are ignored', async () => {
  const { page, messages, session } = await Fixture.connected();
  const [old] = page.sockets;
  old!.lose();
  await page.browser.advance(500);
  accept(page.socket);
  old!.receive(encodeData(1, 'late'));
  old!.lose(4103);
  await page.browser.settle();
  assert.deepEqual(messages, []);
  assert.equal(session.status.state, 'connected');
});

test('a text message is malformed and ends the session', async () => {
  const { page, session } = await Fixture.connected();
  page.socket.receive('text');
  assert.deepEqual([session.status.state, session.status.reason], ['ended', 'Malformed']);
  assert.equal(page.socket.closedWith, 4107);
});

test('ping resolves with the round trip', async () => {
  const { page, session } = await Fixture.connected();
  const pong = session.ping();
  const [nonce] = readNumbers(page.socket.read()[0]!.subarray(1));
  page.browser.pass(30);
  page.socket.receive(encode(Type.Pong, [nonce!, 0, 0, 1_000_000, 1_000_000]));
  assert.equal(await pong, 30);
});

test('ping rejects without a connection and when it is lost before the answer', async () => {
  const { page, session } = new Fixture();
  await assert.rejects(session.ping(), /no connection/);
  await page.browser.settle();
  accept(page.socket);
  const pong = assert.rejects(session.ping(), /lost/);
  page.socket.lose();
  await pong;
});

test('a browser that opens no WebSocket is reported once and tried again', async () => {
  const { page, session, statuses } = new Fixture();
  page.refusal = new Error('connect-src');
  await page.browser.settle();
  assert.equal(statuses[0]?.code, 1006);
  await page.browser.advance(2000);
  assert.equal(page.errors.length, 1);
  assert.match(page.errors[0]!, /cannot open a websocket connection to https:\/\/example\.com\/stillhere\/mine.*connect-src.*Content-Security-Policy.*connect-src/s);
  page.refusal = undefined;
  await page.browser.advance(10_000);
  accept(page.socket);
  assert.equal(session.status.state, 'connected');
});

test('a browser that opens no WebSocket is reported in a task of its own', async () => {
  const { page, session } = await Fixture.connected();
  page.socket.lose();
  page.refusal = new Error('connect-src');
  page.emit('online');
  assert.equal(session.status.retryAt, null);
  await page.browser.settle();
  assert.notEqual(session.status.retryAt, null);
});

test('a socket that fails without a close is lost once', async () => {
  const { page, session } = new Fixture();
  await page.browser.settle();
  const { socket } = page;
  socket.fail();
  assert.equal(session.status.code, 1006);
  socket.lose();
  await page.browser.advance(500);
  assert.equal(page.sockets.length, 2);
});

test('a status handler that fails is reported and the session goes on', async () => {
  const { page, session, messages } = await Fixture.connected();
  session.onstatus = () => {
    throw new Error('mine');
  };
  page.socket.lose();
  await page.browser.advance(500);
  accept(page.socket);
  page.socket.receive(encodeData(1, 'a'));
  assert.deepEqual(messages, ['interactive a']);
  assert.match(page.errors[0]!, /onstatus failed.*mine/);
});

test('a session never has more than one timer', async () => {
  const { page, session } = await Fixture.connected();
  for (let round = 1; round <= 50; round++) {
    page.socket.receive(encodeData(round, 'a'));
    session.send(bytes('b'));
    await page.browser.advance(7);
    assert.equal(page.browser.timers.size, 1);
  }
});
