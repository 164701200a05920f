// F5 returns the page to its session, on a good connection and on one that is silently dead.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, openDemo, reload, repetitions, spread, stateOf, until } from './support.mjs';

const RELOADS = repetitions(100);
const HALF_OPEN_RELOADS = repetitions(3);
/** Seconds that no test waits: what takes so long is not what brought a page back. */
const NEVER = '600';

for (const [origin, urlOf, hasLocks] of [
  ['', (demo) => demo.url, true],
  [' on an origin without Web Locks', (demo) => demo.insecureUrl, false],
]) {
  browserTest(`every reload restores the session at once${origin}`, async (stage) => {
    const demo = await stage.startDemo(0, '--heartbeat', NEVER, '--probe', NEVER);
    const page = await openDemo(await stage.openChromium(), urlOf(demo));
    await assertLocks(page, hasLocks);
    const { id } = await stateOf(page);
    const taken = [];
    let sockets = 0;
    page.on('websocket', () => (sockets += 1));

    for (let loads = 2; loads <= RELOADS + 1; loads += 1) {
      await page.click('#add');
      await until(page, (value) => demo.value === value, loads - 1);
      taken.push(await reloadMeasured(page));
      const { id: restored, outcomes, value, documents } = await stateOf(page);
      assert.deepEqual({ restored, outcomes, value, documents }, { restored: id, outcomes: ['restored'], value: loads - 1, documents: loads });
    }

    await assertCountersClean(page);
    assert.equal(sockets, RELOADS, 'each came back at the first attempt');
    stage.report(`${RELOADS} reloads${origin}: ${spread(taken)} to the outcome`);
  }, { timeout: 300_000 });

  browserTest(`a reload restores the session after a probe when the old socket is half-open${origin}`, async (stage) => {
    const demo = await stage.startDemo(0, '--heartbeat', NEVER);
    const page = await openDemo(await stage.openChromium(), urlOf(demo));
    await assertLocks(page, hasLocks);
    const { id } = await stateOf(page);
    const taken = [];

    for (let loads = 2; loads <= HALF_OPEN_RELOADS + 1; loads += 1) {
      assert.equal(await demo.fault(id, 'silence'), 204);
      taken.push(await reloadMeasured(page));
      const { id: restored, outcomes, documents } = await stateOf(page);
      assert.deepEqual({ restored, outcomes, documents }, { restored: id, outcomes: ['restored'], documents: loads });
      await assertCountersClean(page);
    }

    stage.report(`${HALF_OPEN_RELOADS} reloads beside a half-open socket${origin}: ${spread(taken)} to the outcome`);
  });
}

browserTest('the value and the note survive F5', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);

  for (let clicks = 0; clicks < 3; clicks += 1) await page.click('#add');
  await page.fill('#note', 'kept – über F5 🌱');
  await until(page, () => demo.value === 3 && document.getElementById('note-state').textContent === 'kept on the server');
  await reload(page);

  assert.equal(await page.textContent('#value'), '3');
  assert.equal(await page.inputValue('#note'), 'kept – über F5 🌱');
  assert.match(await page.textContent('#status-outcome'), /restored/);
  await assertCountersClean(page);
});

async function assertLocks(page, hasLocks) {
  assert.deepEqual(await page.evaluate(() => [isSecureContext, navigator.locks !== undefined]), [hasLocks, hasLocks]);
}

/** Returns the milliseconds from the start of the navigation to the outcome. */
async function reloadMeasured(page) {
  await reload(page);
  return page.evaluate(() => demo.welcomedAt);
}
