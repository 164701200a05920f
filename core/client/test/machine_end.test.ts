import assert from 'node:assert/strict';
import { test } from 'node:test';

import { classOf, Code, Reason } from '../src/codes';
import { SessionOver } from '../src/machine';
import { ack, data, end, Page, welcomeFrame } from './page';

const assertSilent = (page: Page): void => {
  page.forget().machine.handleWake(page.now);
  page.machine.handleClose(page.connection, 1006, page.now);
  page.machine.handleHidden(true, page.now);
  page.machine.handleHidden(false, page.now);
  page.machine.handleLeave(page.now);
  page.machine.handleWake(page.now);
  page.machine.failInflate(Code.Malformed, page.now);
  page.advance(1e9);
  assert.deepEqual([page.frames, page.actions, page.events, page.machine.pollTimeout()], [[], [], [], undefined]);
};

test('an end with a reason ends the session', () => {
  const page = Page.connected().receive(end(Code.Ended, Reason.Closed, { retry_after: 5, text: 'bye' }));
  assert.deepEqual(page.event, { type: 'ended', code: Code.Ended, reason: Reason.Closed, retryAfter: 5, text: 'bye', unacknowledged: 0 });
  assert.deepEqual(page.action, { type: 'close', connection: 1, code: 1000 });
  assert.equal(page.machine.phase, 'over');
  assert.throws(() => page.send('late'), SessionOver);
  assertSilent(page);
});

test('a reason ends the session whatever the class of the code', () => {
  for (const code of [Code.Draining, Code.Gap, Code.Stale, 4999]) {
    const page = Page.connected().receive(end(code, Reason.Draining, { retry_after: 3000 }));
    assert.deepEqual([page.event.type, page.machine.phase], ['ended', 'over']);
    assertSilent(page);
  }
});

test('the end tells how many messages were not acknowledged', () => {
  const page = Page.connected().send(new Uint8Array(250)).send('b').send('c', 1).pump().receive(ack(3, 0), end(Code.Ended, Reason.Finished));
  assert.equal(page.event.unacknowledged, 2);
  assert.equal(page.machine.unacknowledgedMessages(), 2);
});

test('received messages stay readable after the end', () => {
  const page = Page.connected().receive(data(1, 'a'), data(2, 'b'), end(Code.Ended, Reason.Finished));
  assert.deepEqual(page.takeAll(), ['a', 'b']);
  assertSilent(page);
});

test('a refusal of class never is final', () => {
  for (const code of [Code.Unknown, Code.WrongSecret, Code.Superseded, Code.Duplicate, Code.Forbidden, Code.Version, 4199]) {
    const page = new Page();
    page.machine.start(page.now);
    page.open().forget().receive(end(code, 0, { text: 'no' }));
    assert.deepEqual(page.event, { type: 'refused', code, class: 'never', text: 'no', retryAt: undefined });
    assert.deepEqual(page.action, { type: 'close', connection: 1, code: 1000 });
    assert.equal(page.machine.phase, 'over');
    assertSilent(page);
  }
});

test('a document that was superseded does not come back', () => {
  const page = Page.connected().send('lost').pump().receive(end(Code.Superseded));
  assert.deepEqual([page.event.type, page.machine.phase, page.machine.unacknowledgedMessages()], ['refused', 'over', 1]);
  assertSilent(page);
});

test('after a refusal of class later the page waits as long as the server asks', () => {
  for (const code of [Code.Full, Code.Busy, 4299]) {
    const page = Page.connected().advance(1000).receive(end(code, 0, { retry_after: 7000, text: 'full' }));
    assert.deepEqual(page.event, { type: 'refused', code, class: 'later', text: 'full', retryAt: page.now + 7000 });
    assert.deepEqual(page.actions, [{ type: 'close', connection: 1, code: 1000 }]);
    page.machine.handleWake(page.now);
    page.advance(6999);
    assert.deepEqual(page.actions, []);
    assert.deepEqual(page.advance(1).actions, [{ type: 'connect', connection: 2 }]);
  }
});

test('after a refusal of class later without a time the page does not retry at once', () => {
  const page = Page.connected().receive(data(1, ''), end(Code.Busy));
  assert.deepEqual([page.machine.phase, page.machine.pollTimeout()], ['waiting', page.now + 500]);
});

test('a page that wakes from its rest still waits as long as a refusal asked', () => {
  const page = Page.connected({}, { keep: 2000 }).advance(1000).receive(end(Code.Full, 0, { retry_after: 60_000 }));
  page.machine.handleHidden(true, page.now);
  page.advance(2000);
  assert.equal(page.machine.phase, 'resting');
  page.machine.handleHidden(false, page.now);
  assert.deepEqual([page.machine.phase, page.machine.pollTimeout()], ['waiting', page.now + 58_000]);
  page.machine.handleHidden(true, page.now);
  page.advance(100_000).machine.handleHidden(false, page.now);
  assert.equal(page.machine.phase, 'connecting');
});

test('after a code of class now the page reconnects', () => {
  for (const code of [Code.HelloDeadline, Code.Silent, Code.Replaced, Code.Gap, Code.Stale, 4399, 4499, 4500, 4000, 1000, 2 ** 53 - 1]) {
    const page = Page.connected().receive(data(1, ''), end(code, 0, { retry_after: 7000, text: 'again' }));
    assert.deepEqual(page.event, { type: 'disconnected', code, text: 'again', retryAt: page.now });
    assert.deepEqual(page.actions, [{ type: 'close', connection: 1, code: 1000 }, { type: 'connect', connection: 2 }]);
  }
});

test('the hundreds of a code give its class', () => {
  const classes = [0, 1006, 3999, 4099, 4100, 4199, 4200, 4299, 4300, 4399, 4400, 4499, 4500, 9999].map(classOf);
  assert.deepEqual(classes, ['now', 'now', 'now', 'now', 'never', 'never', 'later', 'later', 'now', 'now', 'ignore', 'ignore', 'now', 'now']);
});

test('a close without an end is judged by its code', () => {
  assert.equal(Page.connected().close(Code.Unknown).event.type, 'refused');
  assert.equal(Page.connected().close(Code.Full).event.class, 'later');
  assert.equal(Page.connected().close(Code.Stale).event.type, 'disconnected');
  assert.equal(Page.connected().close(1011).event.type, 'disconnected');
  assert.deepEqual(Page.connected().close(Code.Unknown).actions, []);
});

test('the close that follows an end changes nothing', () => {
  const page = Page.connected().receive(data(1, ''), end(Code.Replaced)).forget();
  page.machine.handleClose(1, Code.Replaced, page.now);
  assert.deepEqual([page.machine.phase, page.actions, page.events], ['connecting', [], []]);
});

test('an end may come before the hello', () => {
  const page = new Page();
  page.machine.start(page.now);
  page.pump().machine.handleOpen(1, page.now);
  page.machine.handleFrame(1, Uint8Array.of(0x12, 0x89, 0x20, 0, 0), page.now);
  assert.deepEqual([page.frames, page.machine.phase, page.event.code], [[], 'over', Code.Forbidden]);
});

test('leave is written before the connection is closed', () => {
  const page = Page.connected().send('unsent');
  page.machine.handleLeave(page.now);
  assert.deepEqual([page.machine.phase, page.machine.pollAction(), page.machine.pollTimeout()], ['left', undefined, undefined]);
  assert.deepEqual(page.frame, { type: 'leave' });
  assert.deepEqual(page.action, { type: 'close', connection: 1, code: 1000 });
  page.machine.handleLeave(page.now);
  page.machine.handleHidden(true, page.now);
  page.machine.handleHidden(false, page.now);
  page.advance(1e9);
  assert.deepEqual([page.frames, page.actions, page.events, page.machine.pollTimeout()], [[], [], [], undefined]);
});

test('leaving before the welcome only closes', () => {
  const page = new Page();
  page.machine.handleLeave(page.now);
  assert.equal(page.machine.phase, 'idle');
  page.machine.start(page.now);
  page.open().forget().machine.handleLeave(page.now);
  assert.deepEqual([page.frames, page.actions], [[], [{ type: 'close', connection: 1, code: 1000 }]]);
});

test('a page that left comes back with its incarnation', () => {
  const page = Page.connected().send('kept').receive(data(1, 'a')).forget();
  page.machine.handleLeave(page.now);
  page.send('more').forget().machine.handleWake(page.now);
  assert.deepEqual(page.action, { type: 'connect', connection: 2 });
  const { incarnation, attempt, received } = page.open().frame;
  assert.deepEqual({ incarnation, attempt, received }, { incarnation: 1, attempt: 2, received: [1, 0] });
  page.receive(welcomeFrame());
  assert.deepEqual(page.frames, [data(1, 'kept'), data(2, 'more')]);
});

test('a page that comes back before its leave was written closes the old connection', () => {
  const page = Page.connected();
  page.machine.handleLeave(page.now);
  page.machine.handleWake(page.now);
  assert.deepEqual([page.frames, page.actions], [[], [{ type: 'close', connection: 1, code: 1000 }, { type: 'connect', connection: 2 }]]);
});

test('frames that arrive after leaving are dropped', () => {
  const page = Page.connected();
  page.machine.handleLeave(page.now);
  page.machine.handleFrame(1, Uint8Array.of(0x40, 1), page.now);
  assert.equal(page.take(), undefined);
  page.machine.handleClose(1, Code.Unknown, page.now);
  assert.deepEqual([page.machine.phase, page.frames, page.actions, page.events], ['left', [], [], []]);
});

test('a protocol violation by the server ends the session for good', () => {
  const page = Page.connected().send('unread').pump().forget();
  page.machine.handleFrame(1, Uint8Array.of(0x48), page.now);
  const { type, code, reason, unacknowledged } = page.event;
  assert.deepEqual({ type, code, reason, unacknowledged }, { type: 'ended', code: Code.Malformed, reason: Reason.Malformed, unacknowledged: 1 });
  assert.deepEqual(page.frame, { type: 'leave' });
  assert.deepEqual(page.action, { type: 'close', connection: 1, code: Code.Malformed });
  assertSilent(page);
});

test('a message that cannot be inflated ends the session', () => {
  const page = Page.connected().receive(data(1, 'x', { compressed: true })).forget();
  page.take();
  page.machine.failInflate(Code.TooLarge, page.now);
  const { type, reason } = page.event;
  assert.deepEqual({ type, reason }, { type: 'ended', reason: Reason.TooLarge });
  assert.deepEqual(page.frame, { type: 'leave' });
  assert.deepEqual(page.action, { type: 'close', connection: 1, code: Code.TooLarge });
  assertSilent(page);
});

test('a message that cannot be inflated ends the session without a connection too', () => {
  const page = Page.connected().receive(data(1, 'x', { compressed: true })).close().forget();
  page.take();
  page.machine.failInflate(Code.Malformed, page.now);
  assert.deepEqual([page.frames, page.action], [[], { type: 'close', connection: 2, code: Code.Malformed }]);
  assert.equal(page.event.reason, Reason.Malformed);
  assertSilent(page);
});
