// Networks that block WebSockets: the demo continues over HTTP requests and switches back when it
// can.

import assert from 'node:assert/strict';

import { Network } from './network.mjs';
import { assertCountersClean, browserTest, openDemo, repetitions, stateOf, until, untilCarriedBy } from './support.mjs';

const CUTS = repetitions(10);

browserTest('where WebSockets are blocked the demo goes on over HTTP, loses nothing in cuts, and moves back when it can', async (stage) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  const origin = await stage.serve(network.server);
  const context = await stage.openChromium();
  const page = await openDemo(context, origin);
  await untilCarriedBy(page, 'streamed');
  assert.ok(network.upgrades >= 1, 'WebSockets were tried first');
  assert.equal(await page.textContent('#carrier'), 'HTTP requests (streamed)');
  await assertCountersClean(page);

  const { id } = await stateOf(page);
  for (let cut = 1; cut <= CUTS; cut += 1) {
    network.cut();
    // After so many cuts of its stream, the page polls, and a cut may fall between two polls.
    if (cut <= 3) await until(page, (resumes) => demo.outcomes.filter((outcome) => outcome === 'resumed').length >= resumes, cut);
    await assertCountersClean(page);
  }
  const { outcomes } = await stateOf(page);
  assert.deepEqual([...new Set(outcomes)], ['opened', 'resumed']);

  const tried = network.upgrades;
  await page.reload({ waitUntil: 'commit' });
  await until(page, () => window.demo?.readyAt !== undefined);
  await untilCarriedBy(page, 'streamed');
  const restored = await stateOf(page);
  assert.deepEqual([restored.id, restored.outcomes[0]], [id, 'restored'], 'an F5 keeps the session');
  assert.ok(network.upgrades - tried <= 2, 'the tab remembers: only trials beside the fallback');

  // Both streams keep running.
  for (let move = 1; move <= 3; move += 1) {
    network.isBlocked = false;
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await untilCarriedBy(page, 'websocket');
    assert.equal(await page.textContent('#carrier'), 'a WebSocket');
    await assertCountersClean(page);
    network.isBlocked = true;
    network.cut();
    await untilCarriedBy(page, 'streamed');
    await assertCountersClean(page);
  }
  assert.deepEqual([...new Set((await stateOf(page)).outcomes)], ['restored', 'resumed']);
  assert.equal((await stateOf(page)).id, id);
}, { timeout: 300_000 });
