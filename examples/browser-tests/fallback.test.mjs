// Networks that block WebSockets: the demo goes on over HTTP requests, and moves back when it can.

import assert from 'node:assert/strict';

import { Network } from './network.mjs';
import { assertCountersClean, browserTest, openDemo, repetitions, stateOf, until } from './support.mjs';

const CUTS = repetitions(10);
/** One more than the connections a browser opens to a host. */
const TABS = 7;

const untilCarriedBy = (page, kind) =>
  until(page, (kind) => stillhere.session.connection === kind && window.demo?.status.state === 'connected', kind);

browserTest('where WebSockets are blocked the demo goes on over HTTP, loses nothing in cuts, and moves back when it can', async (stage) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  const origin = await stage.serve(network.server);
  const context = await stage.openChromium();
  const page = await openDemo(context, origin);
  await untilCarriedBy(page, 'http');
  assert.ok(network.upgrades >= 2, 'WebSockets were tried first');
  assert.equal(await page.textContent('#carrier'), 'HTTP requests (the fallback)');
  await assertCountersClean(page);

  const { id } = await stateOf(page);
  for (let cut = 1; cut <= CUTS; cut += 1) {
    network.cut();
    await until(page, (resumes) => demo.outcomes.filter((outcome) => outcome === 'resumed').length >= resumes, cut);
    await assertCountersClean(page);
  }
  const { outcomes } = await stateOf(page);
  assert.deepEqual([...new Set(outcomes)], ['opened', 'resumed']);

  const tried = network.upgrades;
  await page.reload({ waitUntil: 'commit' });
  await until(page, () => window.demo?.readyAt !== undefined);
  await untilCarriedBy(page, 'http');
  const restored = await stateOf(page);
  assert.deepEqual([restored.id, restored.outcomes], [id, ['restored']], 'an F5 keeps the session');
  assert.ok(network.upgrades - tried <= 1, 'the tab remembers: only the trial beside the fallback');

  // While both streams run.
  for (let move = 1; move <= 3; move += 1) {
    network.isBlocked = false;
    await page.evaluate(() => window.dispatchEvent(new Event('online')));
    await untilCarriedBy(page, 'websocket');
    assert.equal(await page.textContent('#carrier'), 'a WebSocket');
    await assertCountersClean(page);
    network.isBlocked = true;
    network.cut();
    await untilCarriedBy(page, 'http');
    await assertCountersClean(page);
  }
  assert.deepEqual([...new Set((await stateOf(page)).outcomes)], ['restored', 'resumed']);
  assert.equal((await stateOf(page)).id, id);
}, { timeout: 120_000 });

browserTest('more tabs than a browser has connections to a host all go on over HTTP', async (stage) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  const origin = await stage.serve(network.server);
  const context = await stage.openChromium();
  const pages = [];
  for (let tab = 0; tab < TABS; tab += 1) {
    const page = await context.newPage();
    await page.goto(origin);
    await untilCarriedBy(page, 'http');
    pages.push(page);
  }
  for (const page of pages) {
    await page.bringToFront();
    await assertCountersClean(page);
  }
}, { timeout: 120_000 });
