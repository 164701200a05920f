// Networks that block WebSockets: the demo goes on over HTTP requests, and moves back when it can.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { Network } from './network.mjs';
import { assertCountersClean, browserTest, openDemo, openTab, repetitions, stateOf, until, untilReady } from './support.mjs';

const CUTS = repetitions(10);
/** One more than the connections a browser opens to a host. */
const TABS = 7;
/** Milliseconds until a page is connected, whatever stands in the middle. */
const SOON = 15_000;

const untilCarriedBy = (page, kind) =>
  until(page, (kind) => stillhere.session.connection === kind && window.demo?.status.state === 'connected', kind);

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
    // A stream that is cut so often makes the page poll, which cuts may miss.
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

  // While both streams run.
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
}, { timeout: 120_000 });

const BOXES = {
  'refuses WebSockets': { webSockets: 'refused' },
  'opens WebSockets and carries nothing over them': { webSockets: 'mute' },
};
for (const [what, box] of Object.entries(BOXES)) {
  for (const isWhole of [false, true]) {
    const best = isWhole ? 'polled' : 'streamed';
    browserTest(`behind a box that ${what}${isWhole ? ' and hands on whole answers only' : ''} the demo is connected within 15 s, and stays`, async (stage) => {
      const demo = await stage.startDemo();
      const network = new Network(demo.url, { ...box, isWhole });
      const origin = await stage.serve(network.server);
      const page = await openTab(await stage.openChromium(), origin);
      const began = performance.now();
      await untilCarriedBy(page, best);
      const took = performance.now() - began;
      assert.ok(took < SOON, `connected after ${took} ms`);
      stage.report(`behind a box that ${what}, over ${best}: connected after ${Math.round(took)} ms`);
      await untilReady(page);
      await assertCountersClean(page);
      // Longer than the heartbeats that end a stream which is held back.
      await sleep(5000);
      await assertCountersClean(page);
      assert.deepEqual([await page.evaluate(() => stillhere.session.connection), (await stateOf(page)).cuts], [best, 0]);
    });
  }
}

browserTest('more tabs than a browser has connections to a host all go on over HTTP', async (stage) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  const origin = await stage.serve(network.server);
  const context = await stage.openChromium();
  const pages = [];
  for (let tab = 0; tab < TABS; tab += 1) {
    const page = await context.newPage();
    await page.goto(origin);
    await until(page, () => stillhere.session.connection !== 'websocket' && window.demo?.status.state === 'connected');
    pages.push(page);
  }
  for (const page of pages) {
    await page.bringToFront();
    await assertCountersClean(page);
  }
}, { timeout: 120_000 });
