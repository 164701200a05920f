// A duplicated tab has the original's sessionStorage and thus its ticket. It must not take the
// session.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { assertCountersClean, browserTest, openDemo, openTab, reload, stateOf, until, untilConnected, untilReady } from './support.mjs';

for (const [origin, urlOf] of [
  ['', (demo) => demo.url],
  [' on an origin without Web Locks', (demo) => demo.insecureUrl],
]) {
  browserTest(`a duplicated tab gets a session of its own and leaves the first untouched${origin}`, async (stage) => {
    const demo = await stage.startDemo();
    const { context, duplicate } = await openDuplicator(stage);
    const first = await openDemo(context, urlOf(demo));
    // The original has been reloaded, so it too uses a stored ticket.
    await reload(first);
    const before = await stateOf(first);

    const copy = await duplicate();
    await untilReady(copy);
    assert.equal(await copy.evaluate(() => performance.getEntriesByType('navigation')[0].type), 'back_forward');
    assert.deepEqual(Object.keys(await copy.evaluate(() => ({ ...sessionStorage }))).length, 1);
    const { id, outcomes, documents } = await stateOf(copy);

    assert.notEqual(id, before.id);
    assert.deepEqual({ outcomes, documents }, { outcomes: ['opened'], documents: 1 });
    await assertCountersClean(copy);
    await assertCountersClean(first);
    assert.deepEqual(await stateOf(first), before);
    await assertEachKeepsItsOwn(first, copy);
  });

  browserTest(`a copy made by window.open gets a session of its own and leaves the first untouched${origin}`, async (stage) => {
    const demo = await stage.startDemo();
    const context = await stage.openChromium();
    const first = await openDemo(context, urlOf(demo));
    const before = await stateOf(first);

    const opened = context.waitForEvent('page');
    await first.evaluate(() => {
      window.open(location.href);
    });
    const copy = await opened;
    await untilReady(copy);

    const { id, outcomes } = await stateOf(copy);
    assert.notEqual(id, before.id);
    assert.deepEqual(outcomes, ['opened']);
    await assertCountersClean(copy);
    await assertCountersClean(first);
    assert.deepEqual(await stateOf(first), before);
    await assertEachKeepsItsOwn(first, copy);
  });
}

browserTest('a tab duplicated before any reload gets a session of its own where restore was not chosen, and so does one after the first is closed', async (stage) => {
  const demo = await stage.startDemo();
  const { context, duplicate } = await openDuplicator(stage);
  const first = await openTab(context, `${demo.url}/other`);
  await untilConnected(first);
  const { id } = await idOf(first);

  const copy = await duplicate();
  await until(copy, () => window.demo?.outcomes.length > 0);
  const { id: own, ticket, outcomes } = await idOf(copy);
  assert.equal(ticket, id, 'the page came from the cache');
  assert.notEqual(own, id);
  assert.deepEqual(outcomes, ['opened']);
  assert.deepEqual((await idOf(first)).outcomes, ['opened'], 'the first is left alone');

  await first.close();
  await copy.bringToFront();
  const second = await duplicate();
  await until(second, () => window.demo?.outcomes.length > 0);
  const { id: third, outcomes: told } = await idOf(second);
  assert.deepEqual(told, ['opened']);
  assert.equal(new Set([id, own, third]).size, 3);
});

const idOf = (page) =>
  page.evaluate(() => ({
    id: demo.session.id,
    ticket: JSON.parse(document.querySelector('[data-stillhere]').dataset.stillhere).id,
    outcomes: [...demo.outcomes],
  }));

/** Checks that each page finds its own session after a reload, while the other page is open. */
async function assertEachKeepsItsOwn(...pages) {
  for (const page of pages) {
    const { id } = await stateOf(page);
    await reload(page);
    const { id: restored, outcomes } = await stateOf(page);
    assert.deepEqual({ restored, outcomes }, { restored: id, outcomes: ['restored'] });
  }
  await Promise.all(pages.map(assertCountersClean));
}

/** Starts Chromium with an extension that duplicates a tab as the tab's menu does. */
async function openDuplicator(stage) {
  const extension = stage.makeFolder();
  const manifest = { manifest_version: 3, name: 'duplicate', version: '1', permissions: ['tabs'], background: { service_worker: 'worker.js' } };
  writeFileSync(join(extension, 'manifest.json'), JSON.stringify(manifest));
  writeFileSync(join(extension, 'worker.js'), '');
  const context = await stage.openChromium({
    args: [
      `--load-extension=${extension}`,
      `--disable-extensions-except=${extension}`,
      '--disable-features=DisableLoadExtensionCommandLineSwitch',
    ],
    ignoreDefaultArgs: ['--disable-extensions'],
  });
  const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent('serviceworker'));

  const duplicate = async () => {
    const [copy] = await Promise.all([
      context.waitForEvent('page'),
      worker.evaluate(async () => {
        const [tab] = await chrome.tabs.query({ active: true, url: 'http://*/*' });
        await chrome.tabs.duplicate(tab.id);
      }),
    ]);
    return copy;
  };
  return { context, duplicate };
}
