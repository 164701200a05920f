// Takes the screenshots of the worked examples, for a desktop and for a phone, that their READMEs
// and the guide show. It builds and starts each example. Names choose fewer:
//
//     node screenshots.mjs
//     node screenshots.mjs live-plot

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

/** The size of each window, in CSS pixels, and how many pixels of the picture each of them has. */
const WINDOWS = {
  desktop: { viewport: { width: 1200, height: 800 }, deviceScaleFactor: 1 },
  phone: { viewport: { width: 390, height: 780 }, deviceScaleFactor: 1.5, hasTouch: true },
};
/** Of WebP, in percent. */
const QUALITY = 75;
/** Most bytes of a picture. */
const LIMIT = 60_000;

const EXAMPLES = {
  'drawing-board': drawingBoard,
  'job-runner': jobRunner,
  'live-plot': livePlot,
};

const folder = join(import.meta.dirname, '..');
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });

async function drawingBoard(url, take) {
  const people = [];
  for (const [name, colour] of [['Ada', '#212529'], ['Grace', '#c2255c'], ['Alan', '#2f9e44']]) {
    const page = await open(url, 'desktop');
    await page.waitForFunction(() => room.me !== undefined);
    await page.fill('#name', name);
    await page.press('#name', 'Enter');
    await page.check(`#colours [value="${colour}"]`, { force: true });
    people.push(page);
  }
  const [ada, grace, alan] = people;
  const wave = (y, phase) => Array.from({ length: 40 }, (_, at) => [0.1 + at * 0.0205, y + 0.04 * Math.sin(at / 2.1 + phase)]);
  const ring = Array.from({ length: 37 }, (_, at) => [0.78 + 0.08 * Math.cos(at / 5.73), 0.24 + 0.107 * Math.sin(at / 5.73)]);
  const rays = Array.from({ length: 8 }, (_, at) => [0.1, 0.14].map((far) => [0.78 + far * Math.cos((at * Math.PI) / 4), 0.24 + far * 1.33 * Math.sin((at * Math.PI) / 4)]));
  for (const line of [wave(0.75, 2.6), wave(0.86, 3.3)]) await draw(ada, '#1971c2', 14, line);
  await draw(ada, '#e8590c', 14, [[0.28, 0.62], [0.62, 0.62], [0.54, 0.72], [0.35, 0.72], [0.28, 0.62]]);
  await draw(ada, '#212529', 6, [[0.46, 0.62], [0.46, 0.2]]);
  await draw(grace, '#e03131', 14, [[0.475, 0.24], [0.6, 0.56], [0.475, 0.56], [0.475, 0.24]]);
  await draw(grace, '#c2255c', 6, [[0.445, 0.28], [0.445, 0.56], [0.345, 0.56], [0.445, 0.28]]);
  await draw(alan, '#f2a900', 14, ring);
  for (const ray of rays) await draw(alan, '#f2a900', 6, ray);
  await draw(alan, '#2f9e44', 14, Array.from({ length: 20 }, (_, at) => [0.08 + at * 0.0063, 0.6 - 0.1 * Math.sin((at * Math.PI) / 19)]));
  for (const [page, x, y] of [[ada, 0.5, 0.9], [grace, 0.7, 0.45], [alan, 0.15, 0.5]]) await page.mouse.move(...(await place(page, [x, y])));
  await draw(ada, '#212529', 14, [[0.5, 0.93]]);
  await take('desktop', ada);
  const phone = await open(url, 'phone');
  await phone.setViewportSize({ width: 390, height: 540 }); // as high as the page
  await phone.waitForFunction(() => room.me !== undefined && strokes.size > 15);
  await phone.fill('#name', 'Mary');
  await phone.press('#name', 'Enter');
  await phone.evaluate(() => document.activeElement.blur());
  await take('phone', phone);
}

/** Returns where a point of the board, in parts of its size, is in the window. */
async function place(page, [x, y]) {
  const box = await page.locator('canvas').boundingBox();
  return [box.x + x * box.width, box.y + y * box.height];
}

async function draw(page, colour, size, points) {
  await page.check(`#colours [value="${colour}"]`, { force: true });
  await page.check(`#sizes [value="${size}"]`, { force: true });
  const [first, ...others] = await Promise.all(points.map((point) => place(page, point)));
  if (others.length === 0) return;
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const point of others) await page.mouse.move(...point, { steps: 4 });
  await page.mouse.up();
}

async function jobRunner(url, take) {
  const desktop = await open(url, 'desktop');
  for (const limit of [20_000, 10_000_000, 5_000_000]) {
    const known = await desktop.locator('.job').count();
    await desktop.fill('#limit', String(limit));
    await desktop.click('form button');
    await desktop.waitForFunction((known) => document.querySelectorAll('.job').length > known, known);
    if (limit === 20_000) await desktop.waitForFunction(() => document.querySelector('.state').textContent === 'done');
    if (limit === 10_000_000) {
      await desktop.waitForFunction(() => Number.parseInt(document.querySelector('.state').textContent) >= 2);
      await desktop.click('#cancel');
    }
  }
  const isUnderWay = () => Number.parseInt(document.querySelector('.state')?.textContent) >= 15;
  await desktop.waitForFunction(isUnderWay);
  await take('desktop', desktop);
  const phone = await open(`${url}/#3`, 'phone');
  await phone.waitForFunction(isUnderWay);
  await take('phone', phone);
}

async function livePlot(url, take) {
  for (const window of ['desktop', 'phone']) {
    const page = await open(url, window);
    await page.fill('#frequency', '4');
    await page.locator('#frequency').blur();
    await page.waitForFunction(() => Number.parseFloat(document.getElementById('rate').textContent) > 15);
    await take(window, page);
  }
}

/** Opens the page in a window of its own. */
async function open(url, window) {
  const context = await browser.newContext(WINDOWS[window]);
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForFunction(() => window.stillhere?.session.status.state === 'connected');
  return page;
}

/** Saves what the page shows, as WebP, which Playwright itself does not write. */
async function save(path, page) {
  const client = await page.context().newCDPSession(page);
  const { data } = await client.send('Page.captureScreenshot', { format: 'webp', quality: QUALITY });
  const picture = Buffer.from(data, 'base64');
  if (picture.length > LIMIT) throw new Error(`${path} has ${picture.length} bytes, above ${LIMIT}`);
  writeFileSync(path, picture);
  console.log(`${path}: ${picture.length} bytes`);
}

/** Builds and starts an example. Returns its process and its address. */
async function start(name) {
  const cargo = ['run', '--quiet', '--package', `stillhere-example-${name}`, '--', '127.0.0.1:0'];
  const program = spawn('cargo', cargo, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const [line] = await once(createInterface(program.stdout), 'line');
  return [program, /http:\S+/.exec(line)[0]];
}

const chosen = process.argv.slice(2);
try {
  for (const [name, show] of Object.entries(EXAMPLES)) {
    if (chosen.length > 0 && !chosen.includes(name)) continue;
    const [program, url] = await start(name);
    try {
      await show(url, (window, page) => save(join(folder, name, `${window}.webp`), page));
    } finally {
      process.kill(-program.pid); // cargo, and what it runs
    }
  }
} finally {
  await browser.close();
}
