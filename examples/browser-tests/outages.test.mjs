// How soon a page reconnects once the network is back: without any event, and after user activity.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { Network } from './network.mjs';
import { assertCountersClean, browserTest, median, openDemo, spread, stateOf, until, untilConnected } from './support.mjs';

const isLong = process.env.STILLHERE_LONG !== undefined;
const OUTAGES = isLong ? 20 : 3;
/** Milliseconds. */
const OUTAGE = 3000;
/** Maximum wait of a visible page, plus the duration of an attempt on a busy machine. */
const LONGEST = 3000 + 1000;

async function measure(stage, isUserThere) {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  network.isBlocked = false;
  const page = await openDemo(await stage.openChromium(), await stage.serve(network.server));
  const taken = [];
  for (let outage = 1; outage <= OUTAGES; outage += 1) {
    network.isDown = true;
    network.cut();
    await until(page, () => demo.status.state === 'reconnecting');
    await sleep(OUTAGE);
    network.isDown = false;
    const began = performance.now();
    if (isUserThere) await page.mouse.click(5, 5);
    await untilConnected(page);
    taken.push(performance.now() - began);
    await assertCountersClean(page);
  }
  assert.deepEqual([...new Set((await stateOf(page)).outcomes)], ['opened', 'resumed']);
  return taken;
}

browserTest(`after ${OUTAGES} outages of 3 s a page is connected again soon, though nothing tells it that the network is back`, async (stage) => {
  const taken = await measure(stage, false);
  stage.report(`${OUTAGES} outages of 3 s: connected again after ${spread(taken)}`);
  assert.ok(Math.max(...taken) < LONGEST, taken.join());
  // A median of a few samples is not meaningful.
  if (isLong) assert.ok(median(taken) < 1000, taken.join());
}, { timeout: 180_000 + OUTAGES * 15_000 });

browserTest(`after ${OUTAGES} outages of 3 s a click connects a page`, async (stage) => {
  const taken = await measure(stage, true);
  stage.report(`${OUTAGES} outages of 3 s, then a click: connected again after ${spread(taken)}`);
  assert.ok(Math.max(...taken) < LONGEST, taken.join());
  if (isLong) assert.ok(median(taken) < 1000, taken.join());
}, { timeout: 180_000 + OUTAGES * 15_000 });
