// The examples for people: long jobs, and a live plot.

import assert from 'node:assert/strict';

import { Network } from './network.mjs';
import { browserTest, openTab, until } from './support.mjs';

const isConnected = () => stillhere.session.status.state === 'connected';
const untilConnected = (page) => until(page, isConnected);

/** Returns a network in front of this program, which the test controls, and its address. */
async function networkOf(stage, { url }) {
  const network = new Network(url);
  network.isBlocked = false;
  return [network, await stage.serve(network.server)];
}

/** Closes the lid: the page loses its connection, and gets none. */
async function closeLid(network, page) {
  network.isDown = true;
  network.cut();
  await until(page, () => stillhere.session.status.state === 'reconnecting');
}

async function openLid(network, page) {
  network.isDown = false;
  await page.evaluate(() => stillhere.session.retry());
  await untilConnected(page);
}

browserTest('a job goes on while the laptop is closed, and its page has the whole log', async (stage) => {
  const program = await stage.startExample('job-runner', '25');
  const [network, url] = await networkOf(stage, program);
  const context = await stage.openChromium();
  const page = await openTab(context, url);
  const linesOf = (page) => page.evaluate(() => document.getElementById('log').textContent.trim().split('\n'));
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));

  await page.fill('#limit', '100');
  await page.evaluate(() => { document.getElementById('limit').min = '1'; });
  await page.click('form button');
  await until(page, () => /from 1,000 to/.test(document.getElementById('error').textContent));
  await page.fill('#limit', '100000');
  await page.click('form button');
  await until(page, () => document.getElementById('log').textContent.includes('below 5,000: 669 primes'));
  await page.reload();
  await until(page, () => document.getElementById('log')?.textContent.includes('below 20,000: 2,262 primes'));
  assert.equal(await page.evaluate(() => stillhere.session.status.outcome), 'restored');

  await closeLid(network, page);
  // A page elsewhere sees the same job, and its end.
  const other = await openTab(context, program.url);
  await until(other, () => document.querySelector('.state')?.textContent === 'done');
  await openLid(network, page);
  await until(page, () => document.querySelector('.state').textContent === 'done');
  await until(page, () => document.getElementById('log').textContent.endsWith('done\n'));
  const lines = await linesOf(page);
  assert.equal(lines.length, 102);
  assert.equal(lines.at(-2), 'below 100,000: 9,592 primes, the largest 99,991');
  assert.equal(new Set(lines).size, 102);
  assert.deepEqual(await page.evaluate(() => stillhere.session.status.outcome), 'resumed');

  await page.fill('#limit', '1000000000');
  await page.click('form button');
  await until(page, () => document.getElementById('log').textContent.startsWith('looking for the primes below 1,000,000,000'));
  await page.click('#cancel');
  await until(page, () => document.getElementById('log').textContent.endsWith('cancelled\n'));
  assert.ok(await page.isHidden('#cancel'));
  assert.deepEqual(complaints.filter((text) => /Content Security Policy|stillhere:/.test(text)), []);
});

browserTest('a plot goes on with the newest frame, and its controls stay as they were set', async (stage) => {
  const program = await stage.startExample('live-plot');
  const [network, url] = await networkOf(stage, program);
  const page = await openTab(await stage.openChromium(), url);
  const frames = () => page.evaluate(() => document.getElementById('rate').textContent);
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
  await page.evaluate(() => { window.seen = 0; points.subscribe(() => (window.seen += 1)); });
  await page.fill('#frequency', '2');
  await page.fill('#frequency', '12');
  await openLid(network, page);
  // 12 periods cross zero 24 times.
  const crossings = () => points.value.filter((value, at, all) => at > 0 && value < 0 !== all[at - 1] < 0).length;
  await until(page, `${crossings.toString().replace(/^\(\) => /, '')} >= 23`);
  await page.click('#running');
  await page.reload();
  await untilConnected(page);
  await until(page, () => document.getElementById('running').textContent === 'Go on');
  assert.deepEqual(await page.evaluate(() => ['frequency', 'sharpness', 'noise'].map((name) => document.getElementById(name).value)), ['12', '0', '0']);
  assert.equal(await page.evaluate(() => stillhere.session.status.outcome), 'restored');
  const frame = await until(page, () => points.value.length && points.value[0]);
  await page.click('#running');
  await until(page, (frame) => points.value[0] !== frame, frame);
  assert.match(await frames(), /frames\/s/);
});
