// Measures what a message costs the main thread of a page in Chromium, and how long a page takes
// from its navigation until it is connected: over a bare WebSocket, over stillhere and over
// Socket.IO, which echo the same bytes.
//
//     npm start --prefix examples/benches/browser                # everything, about two minutes
//     npm start --prefix examples/benches/browser -- --quick     # a tenth of the messages
//     npm start --prefix examples/benches/browser -- --json      # the figures as JSON
//
// It builds the demo, and takes the client from core/client/dist. The kinds take turns, and the
// table shows medians. Time on the main thread is processor time, and includes what Chromium itself
// does there for each message. Compare figures of one run only.
//
// STILLHERE_DEMO may contain the path of a demo that is already built, STILLHERE_CHROMIUM that of
// another Chromium.

import { chromium } from 'playwright-core';

import { Stage, startServers } from './servers.mjs';

const KINDS = ['bare', 'stillhere', 'socketio'];
const LOADS = {
  'echo 64 B, 1 in flight': { count: 2_000, size: 64, inFlight: 1 },
  'echo 64 B, 16 in flight': { count: 8_000, size: 64, inFlight: 16 },
  'echo 16 KiB, 1 in flight': { count: 1_000, size: 16_384, inFlight: 1 },
};
const ROUNDS = 5;
/** Messages before each measurement, so that the client's code is compiled. */
const WARM_UP = 300;

const isQuick = process.argv.includes('--quick');
const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

const stage = new Stage();
try {
  const addresses = await startServers(stage);
  const browser = await chromium.launch({
    executablePath: process.env.STILLHERE_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
  stage.keep(() => browser.close());
  print(await measure(browser, addresses));
} finally {
  await stage.clear();
}

/** Returns the medians: for each figure, a value for each kind. */
async function measure(browser, addresses) {
  const samples = {};
  const note = (figure, kind, value) => ((samples[figure] ??= {})[kind] ??= []).push(value);
  for (let round = 0; round < (isQuick ? 1 : ROUNDS); round += 1) {
    for (const kind of KINDS) await visit(browser, addresses[kind], (figure, value) => note(figure, kind, value));
  }
  return Object.fromEntries(
    Object.entries(samples).map(([figure, byKind]) => [figure, Object.fromEntries(KINDS.map((kind) => [kind, median(byKind[kind])]))]),
  );
}

/** Measures everything on one new page, in a browser context without a cache. */
async function visit(browser, address, note) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const devtools = await context.newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
  const spent = async () => {
    const { metrics } = await devtools.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'TaskDuration').value * 1e6;
  };
  await page.goto(address);
  await page.waitForFunction('openedAt !== undefined');
  note('start-up, ms', await page.evaluate('openedAt'));
  for (const [name, load] of Object.entries(LOADS)) {
    const count = isQuick ? load.count / 10 : load.count;
    const run = (count) => page.evaluate((load) => echo(load), { ...load, count });
    await run(WARM_UP);
    const before = await spent();
    await run(count);
    note(`${name}, µs`, (await spent() - before) / count);
  }
  await context.close();
}

function print(figures) {
  if (process.argv.includes('--json')) return console.log(JSON.stringify(figures, null, 2));
  const row = (name, cells) => console.log([name.padEnd(30), ...cells.map((cell) => cell.padStart(16))].join(''));
  row('main thread per message', KINDS);
  for (const [name, byKind] of Object.entries(figures)) {
    row(name, KINDS.map((kind) => `${byKind[kind].toFixed(1)}${kind === 'bare' ? '' : ` (${(byKind[kind] / byKind.bare).toFixed(2)} x)`}`));
  }
}
