// Observables: the newest value wins, and nothing stale is sent.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Kind } from '../../src/app/unit';
import { encode, Type } from '../../src/wire';
import { readNumbers } from '../fake_server';
import { generator } from '../random';
import { App, type Sent } from './app_fixture';

const setsOf = (sent: Sent[]): unknown[] => sent.filter(({ kind }) => kind === Kind.Set).map(({ name, number, value }) => [name, number, value]);

test('an observable is set, updated and watched', async () => {
  const app = await App.connected();
  const count = app.session.observable('count', 0);
  const seen: number[] = [];
  const unsubscribe = count.subscribe((value) => seen.push(value));
  count.set(1);
  count.update((value) => value + 1);
  unsubscribe();
  count.set(5);
  assert.deepEqual([seen, count.value, count.getSnapshot()], [[0, 1, 2], 5, 5]);
  assert.equal(app.session.observable('count', 9), count);
});

test('a value from the server is taken without an echo', async () => {
  const app = await App.connected();
  const count = app.session.observable('count', 0);
  const seen: number[] = [];
  count.subscribe((value) => seen.push(value));
  await app.give(Kind.Set, { name: 'count', number: 0 }, 7);
  assert.deepEqual(seen, [0, 7]);
  assert.deepEqual(await app.read(), []);
});

test('of many sets, the first and the newest are sent', async () => {
  const app = await App.connected();
  const count = app.session.observable('count', 0);
  const other = app.session.observable('other', '');
  for (let value = 1; value <= 100; value++) count.set(value);
  other.set('x');
  assert.deepEqual(setsOf(await app.read()), [['count', 1, 1], ['other', 1, 'x']]);
  assert.deepEqual(setsOf(await app.read()), [['count', 100, 100]]);
  await app.base.advance(1000);
  assert.deepEqual(await app.read(), []);
});

test('sets follow each other as fast as the server receives them', async () => {
  const app = await App.connected();
  const count = app.session.observable('count', 0);
  const sent: unknown[] = [];
  for (let value = 1; value <= 20; value++) {
    count.set(value);
    sent.push(...setsOf(await app.read()));
  }
  assert.ok(sent.length >= 19, `${sent.length} of 20`);
});

test('while there is no connection, only the newest value is kept: 100 sets a second for a minute', async () => {
  const app = await App.connected();
  const count = app.session.observable('count', 0);
  await app.cut();
  for (let value = 1; value <= 6000; value++) {
    count.set(value);
    if (value % 100 === 0) app.base.page.browser.pass(1000);
  }
  assert.equal(app.session.bufferedAmount(), 0);
  await app.accept();
  assert.deepEqual(setsOf(await app.read()), [['count', 6000, 6000]]);
  assert.deepEqual(await app.read(), []);
});

test('values that come one after another are confirmed at once, one ping at a time', async () => {
  const app = await App.connected();
  app.session.observable('count', 0);
  /** Sends a value; returns what the frames that the page writes at once say that it has received. */
  const confirmedBy = async (value: number): Promise<unknown[]> => {
    await app.give(Kind.Set, { name: 'count', number: 0 }, value);
    return app.base.page.socket.read().map((frame) => [frame[0], readNumbers(frame.subarray(1)).slice(0, 2)]);
  };
  assert.deepEqual(await confirmedBy(1), []);
  await app.base.advance(400);
  app.base.page.socket.read();
  assert.deepEqual(await confirmedBy(2), [[Type.Ping, [1, 2]]]);
  assert.deepEqual(await confirmedBy(3), []);
  app.base.page.socket.receive(encode(Type.Pong, [1, 0, 0, 1_000_000, 1_000_000]));
  await app.base.settle();
  assert.deepEqual(await confirmedBy(4), [[Type.Ping, [2, 4]]]);
  // The server's values during a gap: the next one is the first again.
  await app.cut();
  await app.accept();
  await app.base.advance(600);
  app.base.page.socket.read();
  assert.deepEqual(await confirmedBy(5), []);
  assert.deepEqual(await confirmedBy(6), [[Type.Ping, [3, 6]]]);
});

test('a set that crosses the one of the server wins, and later ones of the server count', async () => {
  const app = await App.connected();
  const count = app.session.observable('count', 0);
  count.set(5);
  await app.give(Kind.Set, { name: 'count', number: 0 }, 3); // sent before it received the 5
  assert.equal(count.value, 5);
  await app.give(Kind.Set, { name: 'count', number: 1 }, 4);
  assert.equal(count.value, 4);
});

test('a value that came before its observable was created is not lost', async () => {
  const app = await App.connected();
  app.session.on('anything', () => {});
  await app.give(Kind.Set, { name: 'count', number: 0 }, 1);
  await app.give(Kind.Set, { name: 'count', number: 0 }, 2);
  assert.equal(app.session.observable('count', 0).value, 2);
});

test('a listener that fails and a value that cannot be encoded leave the rest alone', async () => {
  const app = await App.connected();
  const count = app.session.observable<unknown>('count', 0);
  count.subscribe(() => {
    throw new Error('listener');
  });
  const cycle: unknown[] = [];
  count.set(cycle);
  cycle.push(cycle);
  count.set(cycle);
  await app.read();
  count.set(1);
  await app.read();
  await app.read();
  assert.equal(count.value, 1);
  assert.equal(app.session.status.state, 'connected');
});

/** The server's half, as core/app/PROTOCOL.md describes it. */
class ModelObservable {
  value: unknown = 0;
  number = 0;

  set(value: unknown, app: App): Promise<void> {
    this.value = value;
    return app.give(Kind.Set, { name: 'count', number: this.number }, value);
  }

  receive({ value, number }: Sent): void {
    this.value = value;
    this.number = number;
  }
}

test('both sides agree in the end, whoever sets and whatever the network does', async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = generator(seed);
    const app = await App.connected();
    const page = app.session.observable<unknown>('count', 0);
    const server = new ModelObservable();
    const read = async (acknowledge: boolean): Promise<void> => {
      for (const sent of await app.read(acknowledge)) if (sent.kind === Kind.Set) server.receive(sent);
    };
    for (let step = 0; step < 60; step++) {
      const draw = random();
      if (draw < 0.4) page.set(`page ${step}`);
      else if (draw < 0.7) await server.set(`server ${step}`, app);
      else if (draw < 0.9) await read(random() < 0.7);
      else {
        await app.cut();
        await app.accept();
      }
    }
    for (let round = 0; round < 5; round++) {
      await read(true);
      await app.base.advance(100);
    }
    assert.equal(page.value, server.value, `seed ${seed}`);
  }
});
