// The live plot: its frames and its controls, over a gap and a reload.

import assert from 'node:assert/strict';

import { closeLid, openLid, startNetwork } from './network.mjs';
import { browserTest, openTab, until } from './support.mjs';

browserTest('a plot goes on with the newest frame, and its controls stay as they were set', async (stage) => {
  const program = await stage.startExample('live-plot');
  const [network, url] = await startNetwork(stage, program);
  const page = await openTab(await stage.openChromium(), url);
  // One frame in 200 ms would be the pace of ordinary acknowledgements.
  await until(page, () => Number.parseFloat(document.getElementById('rate').textContent) > 5);
  assert.equal(await page.innerText('#points'), '10,000 points');
  assert.deepEqual(
    await page.evaluate(() => [points.value.constructor.name, points.value.length, points.value.buffer.byteLength > 40_000]),
    ['Float32Array', 10_000, true],
  );
  const isDrawn = () => {
    const { width, height } = document.getElementById('plot');
    return document.getElementById('plot').getContext('2d').getImageData(0, 0, width, height).data.some((byte) => byte > 0);
  };
  assert.ok(await page.evaluate(isDrawn));

  // A wave without noise: the server heeds the controls.
  await page.fill('#noise', '0');
  await page.fill('#frequency', '1');
  await page.fill('#sharpness', '0');
  const isSine = () => points.value.every((value, at, all) => at === 0 || Math.abs(value - all[at - 1]) < 0.001);
  await until(page, isSine);

  await closeLid(network, page);
  await page.fill('#frequency', '2');
  await page.fill('#frequency', '12');
  await openLid(network, page);
  // 12 periods cross zero 24 times.
  await until(page, () => points.value.filter((value, at, all) => at > 0 && value < 0 !== all[at - 1] < 0).length >= 23);
  await page.click('#running');
  await until(page, () => stillhere.session.bufferedAmount() === 0);
  await page.reload();
  await until(page, () => document.getElementById('running')?.textContent === 'Go on');
  assert.deepEqual(await page.evaluate(() => ['frequency', 'sharpness', 'noise'].map((name) => document.getElementById(name).value)), ['12', '0', '0']);
  assert.equal(await page.evaluate(() => stillhere.session.status.outcome), 'restored');
  const frame = await until(page, () => points.value.length && points.value[0]);
  await page.click('#running');
  await until(page, (frame) => points.value[0] !== frame, frame);
});
