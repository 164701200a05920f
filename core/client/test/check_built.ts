// Checks that a built client does what its sources do, although the build shortens the names of
// internal members.

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { test } from 'node:test';

import type { Session, Status, Ticket } from '../src/index';
import type * as slim from '../src/slim';
import { encode, Type } from '../src/wire';
import { FakeBrowser, FakePage, FakeStorage } from './fake_page';
import { accept, encodeData, encodeEnd, payloadsOf, readNumbers, ticketOf } from './fake_server';

/** What both clients export. */
export type Client = typeof slim;

const DIST = new URL('../dist/', import.meta.url);

/** What an application sees of one client. */
export class Trial {
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

export function look(session: Session): unknown[] {
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

/**
 * Compares a module with its sources. `budget` is its maximum size in bytes, gzipped: lower it when
 * the module shrinks.
 */
export async function checkBuilt<C extends Client>(name: string, client: C, budget: number, more: ((client: C) => Promise<unknown[]>)[] = []): Promise<void> {
  const built = (await import(new URL(name, DIST).href)) as C;

  test(`${name} exports what its sources do`, () => {
    assert.deepEqual(Object.keys(built), Object.keys(client));
  });

  for (const drive of [lifeOf, tickets, ...more]) {
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
