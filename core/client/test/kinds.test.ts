import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { type Connection, type ConnectionHandlers, registerConnection } from '../src/kinds';
import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import { type Bytes, encode, Type } from '../src/wire';
import { FakePage } from './fake_page';
import { accept, encodeData, encodeWelcome, payloadsOf, readHello, ticketOf, typesOf } from './fake_server';

const bytes = (content: string): Uint8Array => Buffer.from(content);

/** One connection of a registered kind, controlled by the test. */
class Flight implements Connection {
  /** Frames that the page has sent and the test has not read. */
  sent: Bytes[] = [];
  closedWith: number | undefined;

  constructor(readonly handlers: ConnectionHandlers) {}

  send(frame: Bytes): void {
    this.sent.push(frame.slice());
  }

  close(code: number): void {
    this.closedWith ??= code;
  }

  /** Opens the connection, reads the hello and sends a welcome. */
  welcome(members: Parameters<typeof encodeWelcome>[0] = {}): void {
    this.handlers.onopen();
    readHello(this.read()[0]);
    this.handlers.onmessage(encodeWelcome(members));
  }

  /** The frames sent since the last call. */
  read(): Bytes[] {
    return this.sent.splice(0);
  }
}

let kinds = 0;

/** A page whose server chose a registered kind. */
class Chosen {
  readonly page = new FakePage();
  readonly flights: Flight[] = [];
  readonly messages: string[] = [];
  readonly session: Session;

  /** `open` converts a flight into what the page's script would return. */
  constructor(open: (flight: Flight, number: number) => unknown = (flight) => flight) {
    const name = `kind ${++kinds}`;
    registerConnection(name, (handlers) => {
      const flight = new Flight(handlers);
      return open(flight, this.flights.push(flight)) as Connection;
    });
    const onmessage = (data: Uint8Array): void => void this.messages.push(Buffer.from(data).toString());
    this.session = new Session(ticketOf('mine', { connection: name }), { onmessage }, this.page, EVERY_FEATURE);
  }

  static async connected(): Promise<Chosen> {
    const chosen = new Chosen();
    await chosen.settle();
    chosen.flight.welcome();
    await chosen.settle();
    assert.equal(chosen.session.status.state, 'connected');
    return chosen;
  }

  get flight(): Flight {
    return this.flights.at(-1)!;
  }

  settle(): Promise<void> {
    return this.page.browser.settle();
  }

  advance(time: number): Promise<void> {
    return this.page.browser.advance(time);
  }

  /** Checks that the page continues over a WebSocket. */
  async assertFellBack(): Promise<void> {
    const { page, session } = this;
    assert.equal(page.sockets.length, 1);
    accept(page.socket, { incarnation: 1 });
    await this.settle();
    assert.deepEqual([session.status.state, session.connection], ['connected', 'websocket']);
  }
}

test('a kind that never opens is given up after 10 seconds, and after two attempts WebSockets are tried', async () => {
  const chosen = new Chosen();
  await chosen.advance(9_999);
  assert.deepEqual([chosen.flights.length, chosen.flight.closedWith], [1, undefined]);
  await chosen.advance(2);
  assert.deepEqual([chosen.flights.length, chosen.flights[0]!.closedWith], [2, 4301]);
  await chosen.advance(11_000);
  assert.deepEqual([chosen.flights.length, chosen.flight.closedWith], [2, 4301]);
  await chosen.assertFellBack();
  for (const { handlers } of chosen.flights) handlers.onopen();
  await chosen.settle();
  assert.deepEqual(chosen.flights.map(({ sent }) => sent.length), [0, 0], 'too late');
});

test('a kind that opens and does not answer is given up 10 seconds after the hello', async () => {
  const chosen = new Chosen((flight) => {
    queueMicrotask(flight.handlers.onopen);
    return flight;
  });
  await chosen.advance(9_999);
  assert.equal(chosen.flight.closedWith, undefined);
  assert.deepEqual(typesOf(chosen.flight.sent), [Type.Hello]);
  await chosen.advance(2);
  assert.deepEqual([chosen.flights.length, chosen.flights[0]!.closedWith], [2, 4301]);
  await chosen.advance(11_000);
  await chosen.assertFellBack();
});

test('a connection that dies silently is detected and replaced, and nothing is lost', async () => {
  const chosen = await Chosen.connected();
  const { page, flights, session, messages } = chosen;
  const [dead] = flights as [Flight];
  dead.handlers.onmessage(encodeData(1, 'one'));
  session.send(bytes('a'));
  session.send(bytes('b'));
  assert.deepEqual(payloadsOf(dead.read()), ['a', 'b']);
  await chosen.advance(34_000);
  assert.deepEqual(typesOf(dead.read()), [Type.Ping], 'it asks whether a and b have come');
  await chosen.advance(1_000);
  assert.deepEqual(typesOf(dead.read()), [Type.Ping], 'and whether anybody is there');
  assert.equal(dead.closedWith, undefined);
  await chosen.advance(5_000);
  assert.equal(dead.closedWith, 4301);
  assert.equal(flights.length, 2);
  const next = flights[1]!;
  next.handlers.onopen();
  assert.deepEqual(readHello(next.read()[0]).counts.slice(0, 2), [1, 0]);
  next.handlers.onmessage(encodeWelcome({ received: [1, 0] }));
  next.handlers.onmessage(encodeData(1, 'one'));
  next.handlers.onmessage(encodeData(2, 'two'));
  await chosen.settle();
  assert.deepEqual([session.status.state, session.status.outcome], ['connected', 'resumed']);
  assert.deepEqual(payloadsOf(next.read()), ['b']);
  assert.deepEqual(messages, ['one', 'two']);
  assert.equal(page.sockets.length, 0);
});

test('an event that a kind reports twice counts once', async () => {
  const chosen = new Chosen();
  const { flights, session } = chosen;
  await chosen.settle();
  const [first] = flights as [Flight];
  first.handlers.onopen();
  first.handlers.onopen();
  assert.deepEqual(typesOf(first.read()), [Type.Hello]);
  first.handlers.onmessage(encodeWelcome());
  first.handlers.onopen();
  await chosen.settle();
  assert.deepEqual([session.status.state, first.sent.length], ['connected', 0]);

  first.handlers.onclose();
  first.handlers.onclose();
  first.handlers.onclose(4105);
  await chosen.advance(1000);
  assert.equal(flights.length, 2);
  assert.equal(session.status.state, 'reconnecting');
});

test('events that a kind reports after its close are ignored', async () => {
  const chosen = await Chosen.connected();
  const { flights, session, messages } = chosen;
  const [first] = flights as [Flight];
  first.handlers.onclose();
  first.handlers.onmessage(encodeData(1, 'late'));
  await chosen.advance(1000);
  first.handlers.onopen();
  assert.deepEqual(flights.map(({ sent }) => sent.length), [0, 0], 'the next one is not open yet');
  flights[1]!.welcome();
  first.handlers.onmessage(encodeData(1, 'later'));
  first.handlers.onmessage(encode(Type.Offer));
  first.handlers.onclose(4105);
  first.handlers.onopen();
  flights[1]!.handlers.onmessage(encodeData(1, 'one'));
  await chosen.settle();
  assert.deepEqual(messages, ['one']);
  assert.equal(session.status.state, 'connected');
  assert.deepEqual([first.sent.length, flights.length], [0, 2]);
});

const NO_BYTES = { 'a frame as text': '\x10', 'no text': '', 'a number as text': '17', 'a negative number as text': '-1', 'a huge number as text': '1e15', 'an object with a length': { length: 1e9 }, null: null, undefined, 'an object': {}, 'a blob': new Blob(['hello']) };

for (const [what, value] of Object.entries(NO_BYTES)) {
  test(`${what} instead of bytes ends the connection before the welcome and the session after it, and reaches no handler`, async () => {
    const chosen = new Chosen();
    const { flights, session, messages } = chosen;
    await chosen.settle();
    const [first] = flights as [Flight];
    first.handlers.onopen();
    first.handlers.onmessage(value as Bytes);
    assert.equal(first.closedWith, 4107);
    await chosen.advance(1000);
    flights[1]!.welcome();
    await chosen.settle();
    assert.equal(session.status.state, 'connected');

    flights[1]!.handlers.onmessage(value as Bytes);
    await chosen.settle();
    assert.deepEqual([session.status.state, session.status.reason], ['ended', 'Malformed']);
    assert.equal(flights[1]!.closedWith, 4107);
    assert.deepEqual(messages, []);
    assert.equal(chosen.page.errors.length, 1);
    assert.match(chosen.page.errors[0]!, /no bytes.*arraybuffer/);
  });
}

test('a kind may open before it has returned', async () => {
  const chosen = new Chosen((flight) => {
    flight.handlers.onopen();
    return flight;
  });
  await chosen.settle();
  assert.deepEqual(typesOf(chosen.flight.read()), [Type.Hello]);
  chosen.flight.handlers.onmessage(encodeWelcome());
  await chosen.settle();
  assert.equal(chosen.session.status.state, 'connected');
});

test('a kind that returns an object without send, such as a promise, is reported once, and WebSockets are tried', async () => {
  for (const returned of [{}, Promise.resolve({})]) {
    const chosen = new Chosen((flight) => {
      queueMicrotask(flight.handlers.onopen);
      return returned;
    });
    await chosen.advance(2000);
    assert.equal(chosen.flights.length, 2);
    await chosen.assertFellBack();
    assert.equal(chosen.page.errors.length, 1);
    assert.match(chosen.page.errors[0]!, /stillhere: a connection could not send.*TypeError/);
  }
});

test('a kind that returns nothing is reported once, and WebSockets are tried', async () => {
  for (const returned of [undefined, null]) {
    const chosen = new Chosen(() => returned);
    await chosen.advance(2000);
    assert.equal(chosen.flights.length, 2);
    await chosen.assertFellBack();
    assert.equal(chosen.page.errors.length, 1);
    assert.match(chosen.page.errors[0]!, /cannot open a kind .* connection .*nothing was returned/);
  }
});

test('a connection that closes before the kind has returned it does not affect the next one', async () => {
  const chosen = new Chosen((flight, number) => {
    if (number === 1) flight.handlers.onclose();
    return flight;
  });
  await chosen.advance(1000);
  assert.equal(chosen.flights.length, 2);
  chosen.flight.handlers.onopen();
  assert.deepEqual(chosen.flights.map(({ sent }) => sent.length), [0, 1]);
});

test('a connection that cannot be closed is reported once, and replaced nevertheless', async () => {
  const chosen = new Chosen((flight) => {
    flight.close = () => {
      throw new Error('stuck');
    };
    return flight;
  });
  await chosen.advance(21_000);
  assert.equal(chosen.flights.length, 2);
  await chosen.assertFellBack();
  assert.equal(chosen.page.errors.length, 1);
  assert.match(chosen.page.errors[0]!, /stillhere: a connection could not be closed.*stuck/);
});

test('a kind that carries an invalid answer is given up for WebSockets', async () => {
  const chosen = new Chosen((flight) => {
    queueMicrotask(() => {
      flight.handlers.onopen();
      flight.handlers.onmessage(new Uint8Array([0xee]));
    });
    return flight;
  });
  await chosen.advance(2000);
  assert.equal(chosen.flights.length, 2);
  await chosen.assertFellBack();
});

test('a kind that no script registers is reported after ten seconds, and WebSockets are tried', async () => {
  const page = new FakePage();
  new Session(ticketOf('mine', { connection: 'forgotten' }), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  await page.browser.advance(9_900);
  assert.deepEqual(page.errors, []);
  await page.browser.advance(1_000);
  assert.equal(page.errors.length, 1);
  assert.match(page.errors[0]!, /no script .* registered .*"forgotten"/);
  await page.browser.advance(11_000);
  assert.ok(page.sockets.length > 0);
});

test('a kind that duplicates and loses frames is detected before anything wrong is delivered', async () => {
  const chosen = await Chosen.connected();
  const { flights, messages, session } = chosen;
  const receive = async (...sequences: number[]): Promise<void> => {
    for (const sequence of sequences) chosen.flight.handlers.onmessage(encodeData(sequence, `message ${sequence}`));
    await chosen.settle();
  };
  await receive(1, 1, 3);
  assert.deepEqual(messages, ['message 1']);
  assert.deepEqual([flights.length, flights[0]!.closedWith], [2, 4303]);
  chosen.flight.welcome();
  await receive(2, 1, 3);
  assert.deepEqual(messages, ['message 1', 'message 2', 'message 3']);

  // A kind that never works better.
  for (let times = 1; times <= 3; times += 1) {
    assert.equal(session.status.state, 'connected');
    await receive(9);
    await chosen.advance(1000);
    if (times < 3) chosen.flight.welcome();
    await chosen.settle();
  }
  assert.deepEqual([session.status.state, session.status.reason], ['ended', 'Malformed']);
  assert.equal(messages.length, 3);
});
