// Background pages that the browser has frozen: they run no code and answer nothing.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { assertCountersClean, browserTest, eventually, openDemo, repetitions, stateOf, until, untilOver, untilReady } from './support.mjs';

/**
 * Milliseconds: longer than the 4 s in which the server notices silence; more than twice as long in
 * a full run.
 */
const LONG = 4_000 + repetitions(6_000);

for (const [what, cut] of [
  ['whose socket was reset', async (demo, id) => {
    assert.equal(await demo.fault(id, 'reset'), 204);
    await eventually('the connection is gone', async () => (await demo.fault(id, 'reset')) === 409);
  }],
  ['whose socket was left alone', async () => {}],
]) {
  browserTest(`a hidden and frozen page ${what} resumes with clean counters when it wakes long after`, async (stage) => {
    const demo = await stage.startDemo();
    const browser = await stage.openPlainChromium();
    const [context] = browser.contexts();
    const page = await openDemo(context, demo.url);
    const { id } = await stateOf(page);

    const sleeper = await freeze(context, page);
    await cut(demo, id);
    await sleep(LONG);
    const { received } = await page.evaluate(() => demo.counts.down);
    await sleeper.wake();

    await until(page, (received) => demo.counts.down.received > received, received);
    await assertCountersClean(page);
    const { id: resumed, outcomes, documents } = await stateOf(page);
    assert.deepEqual({ resumed, outcomes, documents }, { resumed: id, outcomes: ['opened', 'resumed'], documents: 1 });
  });
}

browserTest('a frozen page whose session was opened elsewhere says so when it wakes', async (stage) => {
  const demo = await stage.startDemo();
  const browser = await stage.openPlainChromium();
  const [context] = browser.contexts();
  const page = await openDemo(context, demo.url);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  const { id } = await stateOf(page);
  const kept = await page.evaluate(() => ({ ...sessionStorage }));
  const sleeper = await freeze(context, page);

  // Another browser with a copy of the tab's storage. It shares no locks or channels with this one.
  const elsewhere = await openDemo(await stage.openChromium(), demo.url);
  await elsewhere.goto(`${demo.url}/assets/icon.svg`);
  await elsewhere.evaluate((kept) => {
    Object.assign(sessionStorage, kept);
    setTimeout(() => history.back());
  }, kept);
  await untilReady(elsewhere);
  const taken = await stateOf(elsewhere);
  assert.deepEqual({ id: taken.id, outcomes: taken.outcomes, value: taken.value }, { id, outcomes: ['restored'], value: 1 });

  await sleeper.wake();
  await untilOver(page);
  const { state, reason } = await page.evaluate(() => demo.status);
  assert.deepEqual({ state, reason }, { state: 'refused', reason: 'Superseded' });
  assert.match(await page.textContent('#over'), /opened elsewhere/);
  assert.ok(await page.isVisible('#over'));
  await assertCountersClean(elsewhere);
  assert.deepEqual((await stateOf(elsewhere)).outcomes, ['restored']);
});

/**
 * Hides the page behind another tab and freezes it, as a browser does with a tab left in the
 * background for minutes.
 */
async function freeze(context, page) {
  const other = await context.newPage();
  await other.bringToFront();
  await until(page, () => document.hidden);
  await page.evaluate(() => {
    window.ticks = 0;
    setInterval(() => (window.ticks += 1), 50);
  });
  const devtools = await context.newCDPSession(page);
  await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
  const ticks = await page.evaluate(() => ticks);
  return {
    async wake() {
      // Checks that the page is really frozen: a page that is only hidden ticks once a second.
      assert.ok((await page.evaluate(() => ticks)) <= ticks + 1, 'the page was frozen');
      await devtools.send('Page.setWebLifecycleState', { state: 'active' });
      await page.bringToFront();
      await until(page, () => !document.hidden);
    },
  };
}
