// The example of restarts: what a person sees whose server is killed.

import assert from 'node:assert/strict';
import { join } from 'node:path';

import { browserTest, openTab, repetitions, until } from './support.mjs';

const KILLS = repetitions(20);

browserTest('a page goes on with its session while its server is killed again and again', async (stage) => {
  const program = await stage.startExample('restarts', join(stage.makeFolder(), 'sessions.db'));
  const page = await openTab(await stage.openChromium(), program.url);
  const numberOf = (id) => page.evaluate((id) => Number(document.getElementById(id).textContent.replaceAll(',', '')), id);

  for (let kill = 1; kill <= KILLS; kill += 1) {
    const [fromServer, fromPage] = [await numberOf('from-server'), await numberOf('from-page')];
    await until(page, (before) => Number(document.getElementById('from-server').textContent.replaceAll(',', '')) > before + 5, fromServer);
    await until(page, (before) => Number(document.getElementById('from-page').textContent.replaceAll(',', '')) > before + 5, fromPage);
    await page.click('#click');
    await page.click('#kill');
    await page.click('#click');
  }
  await until(page, (clicks) => document.getElementById('clicks').textContent === String(clicks), 2 * KILLS);
  assert.equal(await numberOf('errors'), 0);
  assert.equal(await page.evaluate(() => stillhere.session.status.outcome), 'resumed');
  assert.equal(program.complaints.match(/the server was killed/g)?.length, KILLS);
});
