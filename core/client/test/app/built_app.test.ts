// The built layer: its size, and that it shares the client with its page, or contains it.

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';

import * as source from '../../src/app/index';
import * as wholeSource from '../../src/app/module';
import { FakePage } from '../fake_page';
import { accept, encodeData, ticketOf } from '../fake_server';

/** Maximum size of the module in bytes, gzipped. Lower it when the layer shrinks. */
const BUDGET = 8_560;
/** Maximum size of the script with the client and the layer. */
const WHOLE_BUDGET = 21_750;

const DIST = new URL('../dist/', import.meta.url);
const built = (await import(new URL('app.mjs', DIST).href)) as typeof source;
const whole = (await import(new URL('stillhere-app.mjs', DIST).href)) as typeof wholeSource;

test('the built layer exports what the sources do, and imports the client', () => {
  assert.deepEqual(Object.keys(built), Object.keys(source));
  assert.match(readFileSync(new URL('app.mjs', DIST), 'utf8'), /from"\.\/stillhere\.mjs"/);
});

test('the file of the server exports the rest of the client too, and imports nothing', () => {
  assert.deepEqual(Object.keys(whole), Object.keys(wholeSource));
  assert.ok(Object.keys(source).every((name) => name in whole) && 'OutboxFull' in whole);
  assert.doesNotMatch(readFileSync(new URL('stillhere-app.mjs', DIST), 'utf8'), /\bimport\b|\bfrom"/);
});

for (const [name, { connect, attach }] of Object.entries({ built, source, whole })) {
  test(`connect gives the same session for the same ticket, and attach its layer: ${name}`, async () => {
    const page = new FakePage();
    Object.assign(globalThis, { window: page });
    const seen: unknown[] = [];
    const session = connect<{ events: { moved: { x: number } }; calls: { save(query: string): number } }>(ticketOf('mine'), { outbox: 1000, codec: 'messagepack' });
    session.on('moved', ({ x }) => seen.push(x));
    const other = connect(ticketOf('mine'), { onerror: (error) => void seen.push(error.name), onstatus: ({ state }) => void seen.push(state) });
    assert.equal<unknown>(other, session);
    assert.equal<unknown>(attach(session.raw), session);
    await page.browser.settle();
    accept(page.socket);
    await page.browser.settle();
    session.emit('moved', { x: 1 });
    assert.equal(Buffer.from(page.socket.read().find((frame) => frame[0] === 0x40)!.subarray(2)).toString('hex'), '03056d6f7665640181a17801');
    page.socket.receive(encodeData(1, Buffer.from('\x03\x05moved\0{"x":7}')));
    page.socket.receive(encodeData(2, new Uint8Array([50])));
    await page.browser.settle();
    assert.deepEqual(seen, ['connected', 7, 'Undecodable']);
    assert.deepEqual([session.id, session.connection, session.status.state, session.bufferedAmount() > 0], ['mine', 'websocket', 'connected', true]);
    const answer: Promise<number> = session.call('save', 'x');
    const over = assert.rejects(answer, { name: 'CallError', code: 'over' });
    session.close();
    other.close();
    await page.browser.advance(1);
    await over;
  });
}

test('the built layer is as small as it was', () => {
  for (const [file, budget] of [['app.mjs.gz', BUDGET], ['stillhere-app.js.gz', WHOLE_BUDGET]] as const) {
    const { size } = statSync(new URL(file, DIST));
    assert.ok(size <= budget, `${file}: ${size} bytes`);
  }
});
