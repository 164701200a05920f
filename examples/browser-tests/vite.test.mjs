// The recipe of the single-page application under Vite, as its page describes: during development,
// while its code is edited, and after a build.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { build, createServer } from 'vite';

import { Network } from './network.mjs';
import { browserTest, eventually, freePort, openTab, until } from './support.mjs';

const RECIPE = join(import.meta.dirname, '../recipes/single-page');
const CLIENT = join(import.meta.dirname, '../../core/client');
const EDITS = 2;

browserTest("Vite serves the recipe's page before its server, and an edit reloads the page, which has a new session", async (stage) => {
  const { page, folder, opened, open } = await startVite(stage);
  await says(page, 'hello', 'hello\n');
  await page.evaluate(() => (window.isOld = true));

  edit(folder, readFileSync(join(folder, 'main.js'), 'utf8').replace('${new TextDecoder', 'edited: ${new TextDecoder'));

  await until(page, () => window.isOld === undefined && document.title === 'connected');
  await says(page, 'hello', 'edited: hello\n');
  await eventually('one session is connected', () => open.size === 1);
  assert.deepEqual([opened.length, new Set(opened).size], [2, 2]);
});

const KEEP = 'const ticket = (import.meta.hot.data.ticket ??= await newTicket());';
const ASK = 'const ticket = await newTicket();';
const CLOSE = 'import.meta.hot.dispose(() => session.close());';

const CASES = [
  { lines: [KEEP], what: 'it keeps its ticket: the same session', ids: 1, sessions: 1, outcome: 'opened' },
  { lines: [KEEP, CLOSE], what: 'it keeps its ticket and closes its session: restored', ids: 1, sessions: EDITS + 1, outcome: 'restored' },
  { lines: [ASK, CLOSE], what: 'it asks for a ticket and closes its session: a new one', ids: EDITS + 1, sessions: EDITS + 1, outcome: 'opened' },
];

browserTest('a module that Vite replaces has one session, and its newest handler gets the messages', async (stage) => {
  const { page, folder, opened, open } = await startVite(stage);
  for (const { lines, what, ids, sessions, outcome } of CASES) {
    const module = (version) => `import { connect } from 'stillhere';
      const newTicket = async () => (await fetch('/ticket', { method: 'POST' })).json();
      ${lines.join('\n')}
      const session = connect(ticket, { onmessage: (data) => { log.textContent += '${version} ' + new TextDecoder().decode(data) + ' '; } });
      (window.sessions ??= []).push(session);
      say.onchange = () => session.send(new TextEncoder().encode(say.value));
      import.meta.hot.accept();`;
    const { href } = new URL(page.url());
    await page.goto('about:blank');
    edit(folder, module(0));
    await eventually('the page before has left', () => open.size === 0);
    await eventually('Vite has noticed the edit', async () => {
      const served = await (await fetch(new URL('main.js', href))).text();
      return lines.every((line) => served.includes(line));
    });
    opened.length = 0;
    await page.goto(href);
    for (let version = 0; version <= EDITS; version += 1) {
      if (version > 0) edit(folder, module(version));
      await until(page, (count) => window.sessions?.length === count && sessions.at(-1).status.state === 'connected', version + 1);
      await says(page, 'hello', Array.from({ length: version + 1 }, (_, version) => `${version} hello `).join(''));
    }

    const told = await page.evaluate(() => {
      const last = sessions.at(-1);
      const before = sessions.filter((session) => session !== last).map(({ status }) => status.reason);
      return { outcome: last.status.outcome, before, sessions: new Set(sessions).size };
    });
    assert.deepEqual(told, { outcome, before: Array(sessions - 1).fill('Closed'), sessions }, what);
    assert.deepEqual([opened.length, new Set(opened).size], [sessions, ids], `${what}, and no other connection`);
    await eventually('one connection is left', () => open.size === 1);
  }
});

browserTest("the recipe's server serves what Vite has built", async (stage) => {
  const folder = install(stage);
  await build({ root: folder, logLevel: 'warn' });
  const { url } = await stage.startRecipes({ DIST: join(folder, 'dist') });
  const page = await openTab(await stage.openChromium(), url);
  await live(page);
  await says(page, 'hello', 'hello\n');
});

/** The recipe's folder as `npm install PATH_TO/core/client` leaves it. */
function install(stage) {
  const folder = stage.makeFolder();
  cpSync(RECIPE, folder, { recursive: true });
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(CLIENT, join(folder, 'node_modules/stillhere'));
  return folder;
}

/**
 * Starts Vite for that folder in front of the recipe's server. Returns the page once it is
 * connected, the paths of all WebSockets requested from the server, and those still open.
 */
async function startVite(stage) {
  const folder = install(stage);
  const opened = [];
  const open = new Set();
  const network = new Network((await stage.startRecipes()).url);
  network.isBlocked = false;
  network.server.on('upgrade', ({ url }, socket) => {
    opened.push(url);
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  process.env.SERVER = await stage.serve(network.server);
  const port = await freePort();
  const vite = stage.keep(await createServer({ root: folder, logLevel: 'warn', server: { host: '127.0.0.1', port, strictPort: true } }));
  await vite.listen();
  const page = await openTab(await stage.openChromium(), `http://127.0.0.1:${port}`);
  await live(page);
  return { page, folder, opened, open };
}

const edit = (folder, module) => writeFileSync(join(folder, 'main.js'), module);

const live = (page) => until(page, () => document.title === 'connected');

/** Sends a message as a user does, and waits until the log has this content. */
async function says(page, text, log) {
  await page.fill('#say', text);
  await page.dispatchEvent('#say', 'change');
  await until(page, (log) => document.getElementById('log').textContent === log, log);
}
