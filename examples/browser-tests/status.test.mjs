// What the page shows while its connection is in trouble.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, openDemo, repetitions, stateOf, until } from './support.mjs';

const shown = (page) => page.innerText('#status');

browserTest('silence is shown while it lasts, then the reconnection, then the connection', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  assert.match(await shown(page), /Connected\s+opened/);

  await page.click('[data-fault=silence]');
  await until(page, () => document.getElementById('status').dataset.state === 'silent');
  assert.match(await shown(page), /Nothing received\s+for \d+\.\d s/);
  // Waking the page makes it send a ping at once; it decides after 5 s.
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await until(page, () => demo.cuts === 1 && demo.status.state === 'connected');

  await until(page, () => /Connected\s+resumed/.test(document.getElementById('status').innerText));
  await assertCountersClean(page);
});

browserTest('while the server is away the page says when it tries again', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  await demo.kill();
  await until(page, () => /Reconnecting\s+next attempt in \d+\.\d s/.test(document.getElementById('status').innerText));
});

browserTest('a network that stalls shows as silence, and nothing is lost', async (stage) => {
  const demo = await stage.startDemo();
  const context = await stage.openChromium();
  const page = await openDemo(context, demo.url);

  for (let stalls = 0; stalls < repetitions(3); stalls += 1) {
    await context.setOffline(true);
    await until(page, () => document.getElementById('status').dataset.state === 'silent');
    await context.setOffline(false);
    await until(page, () => document.getElementById('status').dataset.state === 'connected');
    await assertCountersClean(page);
  }

  assert.deepEqual((await stateOf(page)).outcomes, ['opened']);
});

browserTest('a network that is away until the page has given up is no loss either', async (stage) => {
  const demo = await stage.startDemo();
  const context = await stage.openChromium();
  const page = await openDemo(context, demo.url);
  const { id } = await stateOf(page);

  await context.setOffline(true);
  await until(page, () => demo.status.state === 'reconnecting' && demo.status.retryAt !== null);
  await context.setOffline(false);
  await until(page, () => demo.status.state === 'connected');

  // On a busy machine the page may connect over HTTP first and move to a WebSocket, which is
  // another resume.
  const state = await stateOf(page);
  assert.deepEqual([state.id, [...new Set(state.outcomes)]], [id, ['opened', 'resumed']]);
  await assertCountersClean(page);
});
