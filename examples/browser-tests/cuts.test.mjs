// The streams run at full rate while their connection is broken again and again.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, openDemo, repetitions, stateOf, until } from './support.mjs';

const PLUG_PULLS = repetitions(50);
const SILENCES = repetitions(5);

browserTest('plug pulls under the full streams lose, double and reorder nothing', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);

  for (let pulled = 1; pulled <= PLUG_PULLS; pulled += 1) {
    // From right after the welcome, while frames are being sent again, to a third of a second
    // later.
    const received = await page.evaluate(() => demo.counts.down.received);
    await until(page, (received) => demo.counts.down.received >= received, received + (pulled % 5) * 20);
    await page.click('[data-fault=reset]');
    await until(page, (pulled) => demo.cuts === pulled && demo.status.state === 'connected', pulled);
  }

  const { received } = (await assertCountersClean(page)).down;
  const { outcomes } = await stateOf(page);
  assert.deepEqual(outcomes, ['opened', ...Array(PLUG_PULLS).fill('resumed')]);
  stage.report(`${PLUG_PULLS} plug pulls: ${received} numbers down, nothing lost`);
}, { timeout: 300_000 });

browserTest('silences, which nothing but their length tells, lose, double and reorder nothing', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  const noticed = [];

  for (let silences = 1; silences <= SILENCES; silences += 1) {
    await page.click('[data-fault=silence]');
    const began = performance.now();
    await until(page, () => document.getElementById('status').dataset.state === 'silent');
    await until(page, (silences) => demo.cuts === silences && demo.status.state === 'connected', silences);
    noticed.push(performance.now() - began);
    await assertCountersClean(page);
  }

  const { outcomes } = await stateOf(page);
  assert.deepEqual(outcomes, ['opened', ...Array(SILENCES).fill('resumed')]);
  stage.report(`${SILENCES} silences: connected again after ${noticed.map((ms) => (ms / 1000).toFixed(1)).join(', ')} s`);
}, { timeout: 300_000 });
