// The drawing board: people see each other, and draw together over reloads, closed lids and cuts.

import assert from 'node:assert/strict';

import { closeLid, openLid, startNetwork } from './network.mjs';
import { browserTest, openTab, until } from './support.mjs';

const isMember = () => stillhere.session.status.state === 'connected' && room.me !== undefined;
/** Returns the drawing as JSON, in the page. With `expected`, whether it is that. */
function drawing(expected) {
  const drawn = JSON.stringify([...strokes.values()].sort((a, b) => (a.id < b.id ? -1 : 1)));
  return expected ? drawn === expected : drawn;
}
const namesOf = (page) => page.evaluate(() => [...document.querySelectorAll('#people li')].map((item) => item.innerText.replace(/\s+/g, ' ')));

/** Draws a line across the board, at this part of its height. */
async function draw(page, height, to = 0.8) {
  const { x, y, width, height: all } = await page.locator('canvas').boundingBox();
  await page.mouse.move(x + 0.2 * width, y + height * all);
  await page.mouse.down();
  await page.mouse.move(x + to * width, y + height * all, { steps: 10 });
  await page.mouse.up();
}

/** Waits until `other` has the drawing of `page`, and returns it. */
async function untilSame(page, other) {
  const drawn = await page.evaluate(drawing);
  await until(other, drawing, drawn);
  return drawn;
}

/** Waits until the page has so many strokes. */
const untilDrawn = (page, count) => until(page, (count) => strokes.size === count, count);

/** Whether there is ink at this place. */
const hasInk = (page, x, y) => page.evaluate(([x, y]) => {
  const { width, height } = document.getElementById('canvas');
  return document.getElementById('canvas').getContext('2d').getImageData(Math.round(x * width), Math.round(y * height), 1, 1).data[3] > 0;
}, [x, y]);

browserTest('people draw together, and a reload, a closed lid and a cut change nothing', async (stage) => {
  const program = await stage.startExample('drawing-board');
  const [network, url] = await startNetwork(stage, program);
  const [ada, grace] = [await openTab(await stage.openChromium(), url), await openTab(await stage.openChromium(), program.url)];
  const complaints = [];
  for (const page of [ada, grace]) page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  for (const [page, name] of [[ada, 'Ada'], [grace, 'Grace']]) {
    await until(page, isMember);
    await page.fill('#name', name);
    await page.press('#name', 'Enter');
  }
  await until(ada, () => document.getElementById('people').innerText.includes('Grace'));
  await until(grace, () => document.getElementById('people').innerText.includes('Ada'));
  assert.deepEqual((await namesOf(ada)).sort(), ['A Ada you', 'G Grace']);

  await draw(ada, 0.3);
  await untilDrawn(grace, 1);
  await until(grace, () => [...strokes.values()][0].points.length >= 10);
  assert.ok(await hasInk(grace, 0.5, 0.3));
  assert.ok(!(await hasInk(grace, 0.5, 0.5)));
  await until(grace, () => document.querySelector('.cursor')?.innerText === 'Ada');

  // The lid is closed: both go on drawing, and the other sees who is away.
  await closeLid(network, ada);
  await until(grace, () => document.querySelector('#people .away')?.innerText.includes('Ada'));
  await draw(ada, 0.5);
  await draw(grace, 0.7);
  await untilDrawn(ada, 2);
  await untilDrawn(grace, 2);
  await openLid(network, ada);
  await untilDrawn(ada, 3);
  await untilDrawn(grace, 3);
  await until(grace, () => !document.querySelector('#people .away'));
  await untilSame(ada, grace);
  await untilSame(grace, ada);

  // A cut while drawing, and a reload.
  await draw(ada, 0.6, 0.4);
  network.cut();
  await draw(ada, 0.8, 0.4);
  await untilDrawn(grace, 5);
  await until(ada, isMember);
  const before = await untilSame(ada, grace);
  await ada.reload();
  await until(ada, isMember);
  assert.equal(await untilSame(grace, ada), before);
  assert.equal(await ada.evaluate(() => stillhere.session.status.outcome), 'restored');
  assert.equal(await ada.inputValue('#name'), 'Ada');
  assert.deepEqual((await namesOf(grace)).sort(), ['A Ada', 'G Grace you']);
  assert.ok(await hasInk(ada, 0.5, 0.7));

  await grace.click('#clear');
  await untilDrawn(ada, 0);
  await untilDrawn(grace, 0);
  assert.ok(!(await hasInk(ada, 0.5, 0.7)));
  await grace.close();
  assert.deepEqual(complaints.filter((text) => /Content Security Policy|stillhere:/.test(text)), []);
});
