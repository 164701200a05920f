// The job runner: what a person sees who leaves it alone and comes back.

import assert from 'node:assert/strict';

import { closeLid, openLid, startNetwork } from './network.mjs';
import { browserTest, openTab, until } from './support.mjs';

browserTest('a job goes on while the laptop is closed, and its page has the whole log', async (stage) => {
  const program = await stage.startExample('job-runner', '25');
  const [network, url] = await startNetwork(stage, program);
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
