// Middleboxes, and more tabs than HTTP has connections: the demo connects over the best route
// available.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { Network } from './network.mjs';
import { assertCountersClean, browserTest, openTab, stateOf, until, untilCarriedBy, untilReady } from './support.mjs';

/** One more than the number of connections that a browser opens to a host. */
const TABS = 7;
/** Time limit in milliseconds for a page to connect through any middlebox. */
const SOON = 15_000;

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
      // Longer than the heartbeats after which a stream that is held back ends.
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
    // A page that sends only when it is told to, as tabs in the background do. Playwright shows
    // all tabs at once.
    await page.goto(`${origin}/other`);
    await until(page, () => stillhere.session.connection !== 'websocket' && window.demo?.status.state === 'connected');
    pages.push(page);
  }
  for (const page of pages) {
    await page.bringToFront();
    await page.click('#add');
    await until(page, () => demo.value === 1);
  }
}, { timeout: 300_000 });
