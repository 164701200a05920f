// The built client: its size, and that it looks from outside as the sources do, although the build
// shortens the names of internal members.

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { test } from 'node:test';

import * as source from '../src/index';
import type { ConnectionHandlers, Session, Status, Ticket } from '../src/index';
import * as slimSource from '../src/slim';
import { encode, Type } from '../src/wire';
import { FakeBrowser, FakePage, FakeStorage } from './fake_page';
import { accept, encodeData, encodeEnd, encodeWelcome, payloadsOf, readNumbers, ticketOf } from './fake_server';

/** What both clients have. */
type Client = typeof slimSource;

/**
 * The sources of a module, and its maximum size in bytes, gzipped. Lower it when the module shrinks.
 */
const MODULES: Record<string, readonly [sources: Client, budget: number]> = {
  'stillhere.mjs': [source, 13_600],
  'slim.mjs': [slimSource, 10_040],
};

const DIST = new URL('../dist/', import.meta.url);

/** What an application sees of one client. */
class Trial {
  readonly seen: unknown[] = [];
  readonly page: FakePage;
  readonly #client: Client;

  constructor(client: Client, page: FakePage) {
    this.#client = client;
    this.page = page;
    Object.assign(globalThis, { window: page });
  }

  connect(ticket: Ticket): Session {
    const onmessage = (data: Uint8Array, lane: string): void => void this.seen.push(['message', Buffer.from(data).toString(), lane]);
    const onstatus = (status: Status): void => void this.seen.push(status);
    return this.#client.connect(ticket, { onmessage, onstatus, outbox: 1000, ...{ from: null } });
  }

  settle(): Promise<void> {
    return this.page.browser.settle();
  }
}

function look(session: Session): unknown[] {
  const { id, connection, status, renew, onmessage, onstatus } = session;
  return [id, connection, status, typeof renew, typeof onmessage, typeof onstatus, session.bufferedAmount('bulk'), session.bufferedAmount()];
}

/** A session over a WebSocket, from its ticket to its end. */
async function lifeOf(client: Client): Promise<unknown[]> {
  const trial = new Trial(client, new FakePage());
  const { seen, page } = trial;
  const session = trial.connect(ticketOf('mine', { restore: 'label' }));
  await trial.settle();
  seen.push(accept(page.socket), [...page.storage.items]);
  page.socket.receive(encodeData(1, 'hello'));
  page.socket.receive(encodeData(1, 'large', { lane: 1 }));
  session.send(Buffer.from('up'));
  session.sendBulk(Buffer.from('bulk'));
  seen.push(payloadsOf(page.socket.read()), ...look(session));
  for (const size of [900, 900, 9000]) {
    try {
      session.send(new Uint8Array(size));
    } catch (error) {
      seen.push(`${error}`, error instanceof client.OutboxFull, error instanceof client.TooLarge);
    }
  }
  const pong = session.ping();
  const ping = page.socket.read().find((frame) => frame[0] === Type.Ping)!;
  page.socket.receive(encode(Type.Pong, [readNumbers(ping.subarray(1))[0]!, 0, 0, 1_000_000, 1_000_000]));
  seen.push(await pong);
  session.retry();
  page.socket.receive(encodeEnd(1000, 1, 0, 'done'));
  await trial.settle();
  assert.throws(() => session.send(new Uint8Array()), client.SessionOver);
  session.close();
  await trial.settle();
  return [...seen, ...look(session)];
}

/** A session over a registered connection, which is lost. */
async function registered(client: Client): Promise<unknown[]> {
  const trial = new Trial(client, new FakePage());
  const sent: Uint8Array[] = [];
  let handlers!: ConnectionHandlers;
  client.registerConnection('pigeon', (given) => {
    handlers = given;
    return { send: (frame) => void sent.push(frame), close: (code) => void trial.seen.push(code) };
  });
  const session = trial.connect(ticketOf('mine', { connection: 'pigeon' }));
  await trial.settle();
  handlers.onopen();
  handlers.onmessage(encodeWelcome());
  trial.seen.push(handlers.url, sent[0]![0], ...look(session));
  handlers.onclose(1006);
  await trial.settle();
  trial.seen.push(...look(session));
  session.close();
  await trial.settle();
  return trial.seen;
}

/** Tickets that cannot be presented, and a page that was reloaded. */
async function tickets(client: Client): Promise<unknown[]> {
  const protocol = 'stillhere.v1';
  const seen: unknown[] = [];
  for (const ticket of [{ protocol, refused: { code: 4201, retryAfter: 7000, text: 'full' } }, { protocol, connection: 'none' as const }]) {
    const trial = new Trial(client, new FakePage());
    seen.push(...look(trial.connect(ticket)));
    await trial.settle();
    seen.push(...trial.seen);
  }
  const storage = new FakeStorage();
  storage.setItem('stillhere:label:/page?q=1:', JSON.stringify(ticketOf('older', { restore: 'label' })));
  const reloaded = new Trial(client, new FakePage({ browser: new FakeBrowser(), storage, navigation: 'reload' }));
  const session = reloaded.connect(ticketOf('newer', { restore: 'label' }));
  await reloaded.settle();
  seen.push(accept(reloaded.page.socket, { incarnation: 2 }), ...look(session), reloaded.seen);
  session.close();
  await reloaded.settle();
  return seen;
}

for (const [name, [client, budget]] of Object.entries(MODULES)) {
  const built = (await import(new URL(name, DIST).href)) as Client;

  test(`${name} exports what its sources do`, () => {
    assert.deepEqual(Object.keys(built), Object.keys(client));
  });

  for (const drive of [lifeOf, registered, tickets]) {
    test(`${name} does what its sources do: ${drive.name}`, async () => {
      const expected = await drive(client);
      assert.ok(expected.length > 10);
      assert.deepEqual(await drive(built), expected);
    });
  }

  test(`${name} is as small as it was`, () => {
    const { size } = statSync(new URL(`${name}.gz`, DIST));
    assert.ok(size <= budget, `${size} bytes gzipped`);
  });
}
