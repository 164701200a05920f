import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code } from '../src/codes';
import { ack, data, end, HEARTBEAT, KEEP, Page, welcomeFrame } from './page';
import type { ModelFrame } from './wire_model';

const SUSPICION = 2 * HEARTBEAT + 5000;
const counts = { received: [0, 0] as [number, number], credit: [100_000, 100_000] as [number, number] };
const ping = (nonce: number): ModelFrame => ({ type: 'ping', nonce, ...counts });
const pong = (nonce: number): ModelFrame => ({ type: 'pong', nonce, ...counts });

/** Fails `count` attempts immediately; returns the delay before each next one. */
function delays(page: Page, count: number): number[] {
  return Array.from({ length: count }, () => {
    const from = page.close().now;
    if (page.machine.phase === 'waiting') page.wait();
    return Math.round((page.now - from) * 100) / 100;
  });
}

test('a ping is answered at once and only the newest', () => {
  const page = Page.connected().receive(ping(7));
  assert.deepEqual(page.frame, { type: 'pong', nonce: 7, received: [0, 0], credit: [2000, 1000] });
  page.machine.handleFrame(1, Uint8Array.of(0x21, 8, 0, 0, 0xa0, 0x8d, 6, 0xa0, 0x8d, 6), page.now);
  page.machine.handleFrame(1, Uint8Array.of(0x21, 0, 0, 0, 0xa0, 0x8d, 6, 0xa0, 0x8d, 6), page.now);
  assert.equal(page.frame.nonce, 0);
});

test('a pong overtakes data and acknowledgement', () => {
  const page = Page.connected().receive(data(1, 'a')).send('b').receive(ping(7));
  assert.deepEqual(page.frames.map(({ type }) => type), ['pong', 'data']);
});

test('a ping of an older connection is not answered on a newer one', () => {
  const page = Page.connected();
  page.machine.handleFrame(1, Uint8Array.of(0x21, 8, 0, 0, 0xa0, 0x8d, 6, 0xa0, 0x8d, 6), page.now);
  page.machine.handleClose(1, 1006, page.now);
  assert.deepEqual(page.open().receive(welcomeFrame()).frames.map(({ type }) => type), ['hello']);
});

test('a ping follows two heartbeats and five seconds of silence', () => {
  const page = Page.connected().advance(SUSPICION - 1);
  assert.deepEqual(page.frames, []);
  assert.equal(page.advance(1).frame.type, 'ping');
});

test('any frame shows that the peer is alive', () => {
  const page = Page.connected().advance(SUSPICION - 1).receive(data(1, 'a')).advance(200).forget().advance(SUSPICION - 201);
  assert.deepEqual(page.frames, []);
  assert.equal(page.advance(1).frame.type, 'ping');
  page.advance(4999).receive(data(2, 'b')).advance(5000);
  assert.deepEqual([page.machine.phase, page.actions], ['connected', []]);
});

test('silence for five seconds after a ping drops the connection', () => {
  const page = Page.connected().advance(SUSPICION + 4999).forget();
  assert.deepEqual(page.actions, []);
  assert.deepEqual(page.advance(1).actions, [{ type: 'close', connection: 1, code: Code.Silent }, { type: 'connect', connection: 2 }]);
  const { type, code } = page.event;
  assert.deepEqual({ type, code }, { type: 'disconnected', code: Code.Silent });
});

test('a late timeout sends a ping before it drops the connection', () => {
  const page = Page.connected();
  page.now += 1e9;
  page.machine.handleTimeout(page.now);
  assert.equal(page.frame.type, 'ping');
  assert.equal(page.machine.pollTimeout(), page.now + 5000);
});

test('a page that wakes sends a ping', () => {
  const page = Page.connected();
  page.machine.handleWake(page.now);
  assert.equal(page.frame.type, 'ping');
  page.advance(4000).machine.handleWake(page.now);
  assert.deepEqual(page.frames, []);
  assert.equal(page.advance(1000).actions.length, 2);
});

test('a ping that timed out during sleep is repeated on waking', () => {
  const page = Page.connected();
  page.machine.handleWake(page.now);
  page.forget().now += 3_600_000;
  page.machine.handleWake(page.now);
  assert.equal(page.frame.type, 'ping');
  assert.deepEqual([page.machine.phase, page.machine.pollTimeout()], ['connected', page.now + 5000]);
});

test('a pong reports the round trip time', () => {
  const page = Page.connected();
  const nonce = page.machine.ping(page.now);
  assert.deepEqual(page.frame, { type: 'ping', nonce, received: [0, 0], credit: [2000, 1000] });
  assert.deepEqual(page.advance(30).receive(pong(nonce)).event, { type: 'pong', nonce, roundTrip: 30 });
  assert.deepEqual(page.receive(pong(nonce)).events, []);
});

test('a pong with an unknown nonce shows only that the peer is alive', () => {
  const page = Page.connected().advance(SUSPICION).receive(pong(99));
  assert.deepEqual(page.events, []);
  assert.equal(page.machine.pollTimeout(), page.now + SUSPICION);
});

test('the loss of the last frame is detected when a ping is answered', () => {
  const page = Page.connected().send('lost');
  // This may repeat without limit, because it is not a gap in the server's frames.
  for (let times = 0; times < 4; times += 1) {
    assert.equal(page.frame.sequence, 1);
    // The server sends pings, so it is not silent.
    page.advance(HEARTBEAT / 2).receive(ping(1)).forget().advance(HEARTBEAT / 2);
    const { type, nonce } = page.frame;
    assert.equal(type, 'ping');
    page.receive(pong(nonce!));
    assert.deepEqual(page.actions.map(({ type, ...rest }) => [type, 'code' in rest ? rest.code : 0]), [['close', Code.Gap], ['connect', 0]]);
    assert.equal(page.open().frame.type, 'hello');
    page.receive(welcomeFrame());
  }
});

test('a frame written after a ping is not taken for lost when the pong arrives', () => {
  const page = Page.connected();
  const nonce = page.machine.ping(page.now);
  page.forget().send('on its way');
  assert.equal(page.frame.sequence, 1);
  page.receive(pong(nonce));
  assert.deepEqual([page.machine.phase, page.actions], ['connected', []]);
});

test('a pong of an older ping says nothing about frames written since', () => {
  const page = Page.connected();
  const older = page.machine.ping(page.now);
  page.forget().send('on its way').pump().machine.ping(page.now);
  page.forget().receive(pong(older));
  assert.deepEqual([page.machine.phase, page.actions], ['connected', []]);
});

test('a frame written on a new connection has a full heartbeat to be acknowledged', () => {
  const page = Page.connected().send('lost').advance(HEARTBEAT).resume({ received: [1, 0] }).forget().send('on its way');
  assert.equal(page.frame.sequence, 2);
  assert.deepEqual(page.advance(HEARTBEAT - 1).frames, []);
  assert.equal(page.advance(1).frame.type, 'ping');
});

test('a pong that answers no ping of the connection shows only that the peer is alive', () => {
  const page = Page.connected().send('on its way').pump();
  const nonce = page.machine.ping(page.now);
  page.pump().resume().forget();
  for (const unasked of [0, nonce]) {
    page.receive(pong(unasked));
    assert.deepEqual([page.machine.phase, page.actions], ['connected', []]);
  }
});

test('a page that pings more often than it is answered still detects a loss', () => {
  const page = Page.connected().send('lost').forget();
  const nonces = [1, 2, 3, 4].map(() => {
    const nonce = page.machine.ping(page.now);
    page.advance(100).forget();
    return nonce;
  });
  page.receive(pong(nonces[1]!));
  assert.equal(page.machine.phase, 'connecting');
});

test('a server that acknowledges is not sent pings', () => {
  const page = Page.connected();
  for (let sequence = 1; sequence < 10; sequence += 1) {
    assert.equal(page.send('received').frame.sequence, sequence);
    page.advance(HEARTBEAT / 2).receive(ack(sequence));
    assert.deepEqual(page.frames, []);
  }
});

test('a silent server is sent one ping, and is then suspected', () => {
  const page = Page.connected().send('lost').forget();
  page.advance(SUSPICION - 1);
  assert.equal(page.frame.type, 'ping');
  assert.equal(page.advance(1).frame.type, 'ping');
  assert.equal(page.machine.pollTimeout(), page.now + 5000);
});

test('a pong also answers the pings before it', () => {
  const page = Page.connected();
  const nonces = [page.machine.ping(page.now), page.machine.ping(page.now)];
  assert.equal(page.frame.nonce, nonces[1]);
  nonces.push(page.advance(10).machine.ping(page.now));
  page.advance(10).receive(pong(nonces[2]!));
  assert.deepEqual(page.events.map(({ nonce, roundTrip }) => [nonce, roundTrip]), [[nonces[0], 20], [nonces[1], 20], [nonces[2], 10]]);
});

test('a ping does not outlive its connection', () => {
  const page = Page.connected();
  const nonce = page.machine.ping(page.now);
  page.advance(1000).resume().forget().receive(pong(nonce));
  assert.deepEqual([page.frames, page.events], [[], []]);
});

test('a lost connection is replaced at once and then with full jitter up to three seconds', () => {
  const page = Page.connected().advance(1000);
  assert.deepEqual(delays(page, 8), [0, 250, 300, 360, 432, 518.4, 622.08, 746.5]);
  delays(page, 4);
  page.chance = 0.999;
  assert.deepEqual(delays(page, 1), [2997]);
  page.chance = 0;
  assert.deepEqual(delays(page, 1), [0]);
});

test('the first connection of a page is retried in the same way', () => {
  const page = new Page();
  page.machine.start(page.now);
  assert.deepEqual(delays(page.pump(), 4), [0, 250, 300, 360]);
});

test('a connection that was welcomed resets the back-off', () => {
  const page = Page.connected().advance(1000);
  delays(page, 6);
  page.open().receive(welcomeFrame()).advance(1001);
  assert.deepEqual(delays(page, 3), [0, 250, 300]);
  page.open().receive(welcomeFrame(), data(1, 'a'));
  assert.deepEqual(delays(page, 3), [0, 250, 300]);
});

test('a connection that ends right after its welcome is not replaced at once', () => {
  const page = Page.connected();
  assert.deepEqual(delays(page, 2), [250, 300]);
  page.open().receive(welcomeFrame());
  assert.deepEqual(delays(page, 2), [250, 300]);
});

test('the application is told when the next attempt is due', () => {
  const page = Page.connected().advance(1000).close();
  assert.deepEqual(page.event, { type: 'disconnected', code: 1006, text: '', retryAt: page.now });
  assert.equal(page.close(1001).event.retryAt, page.now + 250);
  assert.equal(page.machine.pollTimeout(), page.now + 250);
});

test('a waking page reconnects at once', () => {
  const page = Page.connected().advance(1000);
  delays(page, 8);
  page.close().forget();
  assert.equal(page.machine.phase, 'waiting');
  page.machine.handleWake(page.now);
  assert.equal(page.action.type, 'connect');
  page.machine.handleWake(page.now);
  assert.deepEqual(page.actions, []);
});

test('a hidden page backs off up to a quarter of keep', () => {
  const page = Page.connected({}, { keep: 8000 }).advance(1000);
  page.machine.handleHidden(true, page.now);
  assert.deepEqual(delays(page, 10), [0, 250, 300, 360, 432, 518.4, 622.08, 746.5, 895.8, 1000]);
  const unlimited = Page.connected({}, { keep: 2 ** 53 - 1 }).advance(1000);
  unlimited.machine.handleHidden(true, unlimited.now);
  assert.equal(delays(unlimited, 40).at(-1), 150_000);
});

test('a hidden page that was never welcomed backs off up to ten seconds', () => {
  const page = new Page();
  page.machine.handleHidden(true, page.now);
  page.machine.start(page.now);
  assert.deepEqual(delays(page.pump(), 20).at(-1), 5000);
});

test('a page that is told to retry does so even while the server asked it to wait', () => {
  const page = Page.connected().advance(1000).receive(end(Code.Busy, 0, { retry_after: 60_000 })).forget();
  page.machine.handleWake(page.now);
  assert.deepEqual([page.machine.phase, page.actions], ['waiting', []]);
  page.machine.handleRetry(page.now);
  assert.equal(page.action.type, 'connect');
});

test('the transport may ask for a wait that waking does not shorten', () => {
  const page = Page.connected().advance(1000);
  page.machine.handleClose(1, 1006, page.now, 30_000);
  const { type, code, retryAt } = page.event;
  assert.deepEqual({ type, code, retryAt }, { type: 'refused', code: 1006, retryAt: page.now + 30_000 });
  page.machine.handleWake(page.now);
  assert.deepEqual(page.advance(29_999).actions, []);
  assert.equal(page.advance(1).action.type, 'connect');
});

test('a page hidden and without a connection for keep rests until it is shown', () => {
  const page = Page.connected().advance(1000);
  page.machine.handleHidden(true, page.now);
  for (let beat = 0; beat < 4; beat++) page.advance(HEARTBEAT).receive(ping(beat));
  page.lose().forget();
  const lostAt = page.now;
  while (page.machine.phase !== 'resting') page.close().wait();
  assert.equal(page.now, lostAt + KEEP);
  assert.equal(page.machine.pollTimeout(), undefined);
  page.forget().advance(3_600_000);
  assert.deepEqual([page.actions, page.events], [[], []]);
  page.machine.handleHidden(false, page.now);
  assert.equal(page.action.type, 'connect');
});

test('a page that was hidden for keep rests as soon as an attempt fails', () => {
  const page = Page.connected({}, { keep: 5000 }).advance(1000).close().advance(3000);
  page.machine.handleHidden(true, page.now);
  page.advance(3000).close();
  assert.equal(page.machine.phase, 'waiting');
  page.wait().advance(2000 - 250).forget().close();
  assert.equal(page.machine.phase, 'resting');
  assert.equal(page.event.retryAt, undefined);
  page.machine.handleWake(page.now);
  assert.equal(page.machine.phase, 'connecting');
});

test('a hidden page whose session is not kept rests after one attempt', () => {
  const page = Page.connected({}, { keep: 0 }).advance(1000);
  page.machine.handleHidden(true, page.now);
  assert.equal(page.close().machine.phase, 'connecting');
  assert.equal(page.close().machine.phase, 'resting');
});

test('a page that was hidden for long still replaces a lost connection at once', () => {
  const page = Page.connected().advance(1000);
  page.machine.handleHidden(true, page.now);
  for (let beat = 0; beat < 100; beat++) page.advance(HEARTBEAT).receive(ping(beat));
  page.forget().close();
  assert.deepEqual(page.action, { type: 'connect', connection: 2 });
});

test('a page that was never welcomed does not rest', () => {
  const page = new Page();
  page.machine.start(page.now);
  page.pump().machine.handleHidden(true, page.now);
  assert.equal(delays(page, 100).at(-1), 5000);
});

test('a page that reports twice that it is hidden counts from the first time', () => {
  const page = Page.connected({}, { keep: 5000 }).advance(1000).close();
  page.machine.handleHidden(true, page.now);
  page.advance(3000).machine.handleHidden(true, page.now);
  page.advance(2000).close();
  assert.equal(page.machine.phase, 'resting');
});
