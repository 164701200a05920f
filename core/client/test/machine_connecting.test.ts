import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Code } from '../src/codes';
import { ack, bytes, data, DOCUMENT, end, hex, LIMITS, limitsOf, Page, SECRET, welcomeFrame } from './page';

const started = (): Page => {
  const page = new Page();
  page.machine.start(page.now);
  return page;
};

test('the first hello of a document has received nothing and grants full windows', () => {
  const page = started();
  assert.deepEqual(page.action, { type: 'connect', connection: 1 });
  assert.deepEqual(page.frames, []);
  assert.deepEqual(page.open().frame, {
    type: 'hello', secret: hex(SECRET), document: hex(DOCUMENT), incarnation: 0, attempt: 1, received: [0, 0], credit: [2000, 1000],
  });
  assert.equal(page.machine.phase, 'hello');
});

test('a page that is started twice connects once', () => {
  const page = started();
  page.machine.start(page.now);
  assert.equal(page.action.type, 'connect');
});

test('each hello has a greater attempt than all before it', () => {
  const page = started();
  for (let attempt = 1; attempt < 5; attempt++) {
    assert.equal(page.open().frame.attempt, attempt);
    page.lose();
  }
});

test('counts are read when the hello is written', () => {
  const page = Page.connected().receive(data(1, 'ho')).lose();
  page.machine.handleOpen(page.connection, page.now);
  page.take();
  page.release();
  const { incarnation, received, credit } = page.frames.at(-1)!;
  assert.deepEqual({ incarnation, received, credit }, { incarnation: 1, received: [1, 0], credit: [2066, 1000] });
});

test('between hello and welcome only confirm is sent', () => {
  const page = started().open().forget();
  page.send('early').send('early', 1).machine.ping(page.now);
  assert.deepEqual(page.frames, []);
  page.receive({ type: 'offer' });
  assert.deepEqual(page.frame, { type: 'confirm' });
  assert.equal(page.machine.phase, 'offered');
  assert.deepEqual(page.receive(welcomeFrame()).frames.map(({ type }) => type), ['ping', 'data', 'data']);
});

test('the incarnation in the welcome tells opened and restored and resumed apart', () => {
  const opened = started().open().receive(welcomeFrame());
  assert.deepEqual(opened.event, { type: 'welcomed', outcome: 'opened', incarnation: 1 });
  assert.equal(opened.resume().events.at(-1)!.outcome, 'resumed');
  const restored = started().open().receive({ type: 'offer' }).receive(welcomeFrame({ incarnation: 7 }));
  assert.deepEqual(restored.event, { type: 'welcomed', outcome: 'restored', incarnation: 7 });
  assert.equal(restored.machine.incarnation, 7);
  assert.equal(started().open().receive(welcomeFrame({ incarnation: 2 })).event.outcome, 'restored');
  assert.equal(restored.resume({ incarnation: 7 }).events.at(-1)!.outcome, 'resumed');
});

test('a lost welcome does no harm', () => {
  const page = started().open().forget().lose().open();
  const { incarnation, attempt } = page.frame;
  assert.deepEqual({ incarnation, attempt }, { incarnation: 0, attempt: 2 });
  assert.equal(page.receive(welcomeFrame({ epoch: 2 })).events.at(-1)!.outcome, 'opened');
});

test('frames of older connections are dropped', () => {
  const page = Page.connected();
  const before = page.connection;
  page.machine.handleClose(before, 1006, page.now);
  page.wait().machine.handleFrame(before, Uint8Array.of(0x40, 1, 1), page.now);
  page.open().machine.handleFrame(before, Uint8Array.of(0x40, 1, 1), page.now);
  page.receive(welcomeFrame()).machine.handleFrame(before, Uint8Array.of(0x40, 1, 1), page.now);
  assert.equal(page.take(), undefined);
  assert.deepEqual(page.forget().receive({ type: 'ping', nonce: 1, received: [0, 0], credit: [100_000, 100_000] }).frame.received, [0, 0]);
});

test('nothing is transmitted on a connection that is not in use', () => {
  const page = Page.connected().send('hi');
  assert.equal(page.machine.pollTransmit(page.connection - 1, true, page.now), undefined);
  assert.equal(page.machine.pollTransmit(page.connection + 1, true, page.now), undefined);
  page.machine.handleClose(page.connection, 1006, page.now);
  assert.equal(page.machine.pollTransmit(page.connection, true, page.now), undefined);
  page.lose().machine.handleOpen(page.connection, page.now);
  page.close();
  assert.equal(page.machine.phase, 'waiting');
  assert.equal(page.machine.pollTransmit(0, true, page.now), undefined);
});

test('a hello due on a lost connection is not written on the next one before that opens', () => {
  const page = started().forget();
  page.machine.handleOpen(1, page.now);
  page.close();
  assert.deepEqual([page.frames, page.machine.phase], [[], 'connecting']);
  assert.equal(page.open().frame.attempt, 2);
});

test('a close of an older connection changes nothing', () => {
  const page = Page.connected().resume().forget();
  page.machine.handleClose(page.connection - 1, Code.Replaced, page.now);
  page.machine.handleClose(77, 1006, page.now);
  page.machine.handleOpen(page.connection - 1, page.now);
  assert.equal(page.machine.phase, 'connected');
  assert.deepEqual([page.frames, page.actions, page.events], [[], [], []]);
});

test('an error before the welcome ends only the connection', () => {
  const packets = [Uint8Array.of(), Uint8Array.of(0x40, 1, 1), Uint8Array.of(0x21, 1, 0, 0, 0, 0), Uint8Array.of(0x11, 1), Uint8Array.of(0x03)];
  for (const packet of packets) {
    const page = started().open().forget();
    page.machine.handleFrame(1, packet, page.now);
    assert.deepEqual(page.actions, [{ type: 'close', connection: 1, code: Code.Malformed }, { type: 'connect', connection: 2 }]);
    assert.deepEqual(page.frames, []);
    const { type, code } = page.event;
    assert.deepEqual({ type, code }, { type: 'disconnected', code: Code.Malformed });
  }
});

test('an answer before the hello ends only the connection', () => {
  for (const isOpen of [false, true]) {
    for (const frame of [welcomeFrame(), { type: 'offer' }]) {
      const page = started().forget();
      if (isOpen) page.machine.handleOpen(1, page.now);
      page.receive(frame);
      assert.deepEqual(page.actions.map(({ connection }) => connection), [1, 2]);
      assert.deepEqual(page.frames, []);
    }
  }
});

test('a second offer ends only the connection', () => {
  const page = started().open().receive({ type: 'offer' }).forget().receive({ type: 'offer' });
  assert.deepEqual(page.actions.map(({ connection }) => connection), [1, 2]);
  assert.deepEqual(page.frames, []);
});

test('an offer to a welcomed document ends only the connection', () => {
  const page = Page.connected().lose().open().forget().receive({ type: 'offer' });
  assert.deepEqual(page.frames, []);
  assert.deepEqual(page.actions[0], { type: 'close', connection: 2, code: Code.Malformed });
  assert.notEqual(page.machine.phase, 'over');
});

test('a welcome that contradicts what is known ends the session', () => {
  const wrong = [
    { incarnation: 2 }, { incarnation: 0 }, { fragment: 101 }, { message: 1001 }, { inflated: 10_001 }, { window: 2001 }, { bulk_window: 1001 },
    { received: [1, 0] as [number, number] }, { credit: [99_999, 100_000] as [number, number] },
  ];
  for (const fields of wrong) {
    const page = Page.connected().lose().open().forget().receive(welcomeFrame(fields));
    assert.deepEqual(page.frame, { type: 'leave' });
    assert.deepEqual(page.action, { type: 'close', connection: 2, code: Code.Malformed });
    assert.equal(page.event.type, 'ended');
    assert.equal(page.machine.phase, 'over');
  }
});

test('a second welcome or offer on a connection ends the session', () => {
  for (const frame of [welcomeFrame(), { type: 'offer' }]) {
    const page = Page.connected().receive(frame);
    assert.equal(page.event.type, 'ended');
    assert.deepEqual(page.frame, { type: 'leave' });
  }
});

test('a connection that does not open in ten seconds is given up', () => {
  const page = started().forget().advance(9999);
  assert.deepEqual(page.actions, []);
  assert.deepEqual(page.advance(1).actions, [{ type: 'close', connection: 1, code: Code.Silent }, { type: 'connect', connection: 2 }]);
});

test('a connection whose hello is not answered in ten seconds is given up', () => {
  const page = started().advance(9000);
  page.machine.handleOpen(1, page.now);
  assert.equal(page.machine.pollTimeout(), page.now + 10_000);
  page.forget().advance(9999);
  assert.deepEqual(page.actions, []);
  assert.deepEqual(page.advance(1).actions, [{ type: 'close', connection: 1, code: Code.Silent }, { type: 'connect', connection: 2 }]);
});

test('a connection whose confirm is not answered in ten seconds is given up', () => {
  const page = started().open().advance(9000).receive({ type: 'offer' }).forget().advance(9999);
  assert.deepEqual(page.actions, []);
  assert.deepEqual(page.advance(1).actions, [{ type: 'close', connection: 1, code: Code.Silent }, { type: 'connect', connection: 2 }]);
});

test('a newcomer whose connection is lost after the confirm starts over', () => {
  const page = started().open().receive({ type: 'offer' }).lose().forget().open();
  assert.deepEqual([page.machine.phase, page.frame.attempt], ['hello', 2]);
  assert.deepEqual(page.receive({ type: 'offer' }).frame, { type: 'confirm' });
});

test('another ticket can be presented before the welcome', () => {
  const page = started().open().send('kept').receive(end(Code.Superseded)).forget();
  assert.equal(page.machine.phase, 'over');
  page.machine.present(bytes(32, 7), { ...LIMITS, window: 3000, bulkWindow: 4000 }, page.now);
  assert.deepEqual(page.action, { type: 'connect', connection: 2 });
  const { secret, incarnation, credit } = page.open().frame;
  assert.deepEqual({ secret, incarnation, credit }, { secret: '07'.repeat(32), incarnation: 0, credit: [3000, 4000] });
  assert.deepEqual(page.receive(welcomeFrame({ window: 3000, bulk_window: 4000 })).frame, data(1, 'kept'));
});

test('another ticket replaces a connection that was not welcomed', () => {
  const page = started().open().forget();
  page.machine.present(bytes(32, 7), LIMITS, page.now);
  assert.deepEqual(page.actions, [{ type: 'close', connection: 1, code: 1000 }, { type: 'connect', connection: 2 }]);
  const idle = new Page();
  idle.machine.present(bytes(32, 7), LIMITS, idle.now);
  assert.deepEqual(idle.actions, []);
});

test('another ticket cannot be presented after the welcome', () => {
  assert.throws(() => Page.connected().machine.present(SECRET, LIMITS, 0), /too late/);
});

for (const fragment of [7, 1000]) {
  test(`messages queued for a ticket with other limits are fragmented again, at ${fragment}`, () => {
    const page = new Page();
    const messages = [250, 0, 100, 101].map((size, index) => bytes(size, index));
    for (const message of messages) page.machine.send(1, message, page.now);
    const limits = { ...LIMITS, fragment };
    page.machine.present(SECRET, limits, page.now);
    page.machine.start(page.now);
    page.open().forget();
    const frames = page.receive(welcomeFrame(limitsOf(limits))).frames.filter(({ type }) => type === 'data');
    assert.ok(frames.every(({ payload }) => payload!.length <= 2 * fragment), 'in hexadecimal digits');
    assert.deepEqual(frames.map(({ sequence }) => sequence), frames.map((_, index) => index + 1));
    const whole = frames.reduce<string[]>((joined, { payload }, index) => {
      if (index && frames[index - 1]!.more) joined.push(joined.pop()! + payload);
      else joined.push(payload!);
      return joined;
    }, []);
    assert.deepEqual(whole, messages.map(hex));
    assert.equal(page.machine.unacknowledgedMessages(), 4);
  });
}

test('an offer of a session that another document had is declined if this page must not take it over', () => {
  const page = new Page({ declines: true });
  page.machine.start(page.now);
  page.open().forget();
  page.receive({ type: 'offer' });
  assert.equal(page.machine.phase, 'over');
  assert.deepEqual(page.frames, []);
  assert.deepEqual(page.actions.map(({ type }) => type), ['close']);
  const { type, code, class: kind } = page.event;
  assert.deepEqual([type, code, kind], ['refused', 4104, 'never']);
});

test('a message sent before the welcome is not acknowledged by it', () => {
  const page = started().send('early').open().receive(welcomeFrame({ received: [1, 0] }));
  assert.equal(page.machine.phase, 'over');
  assert.equal(Page.connected().send('hi').pump().receive(ack(1)).machine.phase, 'connected');
});
