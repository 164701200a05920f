import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { becomeIncumbent } from '../src/incumbent';
import type { Release } from '../src/lock';
import { FakeBrowser, FakePage } from './fake_page';

/** Returns the outcome of the request to become incumbent. */
async function settled(page: FakePage, contested = true): Promise<Release | undefined> {
  const incumbency = becomeIncumbent('id', contested, page);
  await page.browser.advance(100);
  return incumbency;
}

for (const [name, withoutLocks] of [['locks', false], ['channels', true]] as const) {
  test(`with ${name}, one active document has a session until it releases it`, async () => {
    const browser = new FakeBrowser();
    const [first, second] = [new FakePage({ browser, withoutLocks }), new FakePage({ browser, withoutLocks })];
    const release = await settled(first);
    assert.ok(release);
    assert.equal(await settled(second), undefined);
    release();
    await browser.settle();
    assert.ok(await settled(second));
  });

  test(`with ${name}, the document of one session does not answer for another`, async () => {
    const browser = new FakeBrowser();
    await settled(new FakePage({ browser, withoutLocks }));
    const other = becomeIncumbent('other', true, new FakePage({ browser, withoutLocks }));
    await browser.advance(100);
    assert.ok(await other);
  });
}

test('a document that crashes releases its lock', async () => {
  const browser = new FakeBrowser();
  const first = new FakePage({ browser });
  await settled(first);
  first.die();
  assert.ok(await settled(new FakePage({ browser })));
});

test('a document whose session is not contested asks nobody on the channel, but answers others', async () => {
  const browser = new FakeBrowser();
  const page = new FakePage({ browser, withoutLocks: true });
  const incumbency = becomeIncumbent('id', false, page);
  assert.equal(browser.timers.size, 0);
  assert.ok(await incumbency);
  assert.equal(await settled(new FakePage({ browser, withoutLocks: true })), undefined);
});

test('a document that is refused closes its channel', async () => {
  const browser = new FakeBrowser();
  await settled(new FakePage({ browser, withoutLocks: true }));
  await settled(new FakePage({ browser, withoutLocks: true }));
  assert.equal(browser.channels.size, 1);
});

test('two documents that ask at the same time both continue, and the server decides', async () => {
  const browser = new FakeBrowser();
  const both = [1, 2].map(() => becomeIncumbent('id', true, new FakePage({ browser, withoutLocks: true })));
  await browser.advance(100);
  for (const release of await Promise.all(both)) assert.ok(release);
});

test('other messages on the channel are ignored', async () => {
  const browser = new FakeBrowser();
  const page = new FakePage({ browser, withoutLocks: true });
  const stranger = new page.BroadcastChannel!('stillhere:id');
  const heard: unknown[] = [];
  stranger.onmessage = ({ data }) => heard.push(data);
  const incumbency = settled(page);
  for (const data of [null, undefined, 'alive', 1, {}, { alive: 'other' }]) stranger.postMessage(data);
  assert.ok(await incumbency);
  for (const data of [null, undefined, 'ask', { ask: 'other' }]) stranger.postMessage(data);
  await browser.settle();
  assert.deepEqual(heard, [{ ask: 'id' }]);
  stranger.postMessage({ ask: 'id' });
  await browser.settle();
  assert.deepEqual(heard.at(-1), { alive: 'id' });
});

for (const [name, page] of [
  ['locks that may not be requested', Object.assign(new FakePage({ withoutChannels: true }), { navigator: { locks: { request: () => Promise.reject(new Error('SecurityError')) } } })],
  ['locks that throw', Object.assign(new FakePage({ withoutChannels: true }), { navigator: { locks: { request: () => { throw new Error('SecurityError'); } } } })],
  ['neither locks nor channels', new FakePage({ withoutLocks: true, withoutChannels: true })],
] as const) {
  test(`with ${name}, every document continues, and the server decides`, async () => {
    const release = await settled(page);
    release!();
  });
}
