// What the browser tests share: a stage with a demo and Chromium of their own, and conditions to
// wait for.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { chromium } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';
const NGINX = '/usr/sbin/nginx';
/** A name of 127.0.0.1 that Chromium does not trust: no secure context, so no Web Locks. */
const INSECURE_HOST = 'demo.test';
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`,
];
const POLL = 20;
const SHARE = Number(process.env.STILLHERE_SHARE ?? 1);

/** How often a long test repeats something, if it does so `count` times when it is run in full. */
export const repetitions = (count) => Math.ceil(count * SHARE);

/**
 * A test in a browser: `body` gets a stage, and what it started there is closed whatever happens.
 *
 * @param {string} name
 * @param {(stage: Stage) => Promise<void>} body
 * @param {{ timeout?: number }} options milliseconds; three times as many where all repetitions run
 */
export function browserTest(name, body, { timeout: usual = 60_000 } = {}) {
  const timeout = process.env.STILLHERE_LONG ? 3 * usual : usual;
  test(name, async (t) => {
    const stage = new Stage(t);
    const expiry = new AbortController();
    const expired = sleep(timeout, undefined, { signal: expiry.signal }).then(() => {
      throw new Error(`not over within ${timeout} ms`);
    });
    try {
      await Promise.race([body(stage), expired]);
    } catch (error) {
      // Chromium complains about the absence of a desktop, at length.
      error.message = error.message.replace(/^.*\bdbus\b.*\n/gm, '') + (await stage.describe());
      throw error;
    } finally {
      expired.catch(() => {});
      expiry.abort();
      await stage.clear();
    }
  });
}

/** What one test started. */
class Stage {
  #test;
  /** How to close what was started, the last first. */
  #closing = [];
  #contexts = [];

  constructor(test) {
    this.#test = test;
  }

  /** A figure for the reader of the run. */
  report(text) {
    this.#test.diagnostic(text);
  }

  /** A demo on a free port of loopback, or on the one of a demo that is gone, with these further arguments. */
  async startDemo(port = 0, ...options) {
    return this.#start(new Demo(port, ['--allow-host', INSECURE_HOST, ...options]));
  }

  /** The demo over WebRTC. */
  async startWebrtc(port = 0) {
    return this.#start(new Demo(port, [], 'STILLHERE_WEBRTC'));
  }

  /** The application of drop-in/ on a free port of loopback, with these further arguments. */
  async startDropIn(...options) {
    return this.#start(new Program('STILLHERE_DROP_IN', ['--addr', '127.0.0.1:0', ...options]));
  }

  /** The recipes' program, which finds this in its environment. */
  async startRecipes(environment = {}) {
    return this.#start(new Program('STILLHERE_RECIPES', ['127.0.0.1:0'], environment));
  }

  async #start(program) {
    this.#closing.push(async () => {
      await program.kill();
      assert.doesNotMatch(program.complaints, /panicked/, 'the program panicked');
    });
    await program.listening;
    return program;
  }

  /** nginx before this program as drop-in/nginx.conf has it; gives where the application is. */
  async startNginx({ port }) {
    const folder = this.makeFolder();
    const listen = await freePort();
    const shipped = readFileSync(join(import.meta.dirname, '../drop-in/nginx.conf'), 'utf8');
    writeFileSync(join(folder, 'nginx.conf'), shipped.replaceAll('127.0.0.1:8080', `127.0.0.1:${listen}`).replaceAll('127.0.0.1:3000', `127.0.0.1:${port}`));
    const options = ['-e', 'stderr', '-p', folder, '-c', 'nginx.conf', '-g', 'master_process off;'];
    const child = spawn(NGINX, options, { stdio: ['ignore', 'inherit', 'inherit'] });
    const over = once(child, 'exit');
    this.#closing.push(async () => {
      if (child.kill('SIGKILL')) await over;
    });
    const url = `http://127.0.0.1:${listen}/app/`;
    await eventually('nginx answers', () => fetch(url).then(({ ok }) => ok, () => false));
    return url;
  }

  /** Chromium with a fresh profile; gives Playwright's context. */
  async openChromium({ args = [], ...options } = {}) {
    const profile = this.makeFolder();
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      headless: true,
      args: [...ARGUMENTS, ...args],
      ...options,
    });
    this.show(context);
    return context;
  }

  /** Chromium without what Playwright does to every page: only here can a page be hidden, and so frozen. */
  async openPlainChromium() {
    const profile = this.makeFolder();
    const args = [...ARGUMENTS, '--headless=new', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'];
    const child = spawn(CHROMIUM, args, { stdio: 'ignore' });
    this.#closing.push(async () => {
      if (child.kill('SIGKILL')) await once(child, 'exit');
    });
    const port = await eventually('Chromium tells its port', () => {
      try {
        return Number(readFileSync(join(profile, 'DevToolsActivePort'), 'utf8').split('\n')[0]);
      } catch {
        return 0;
      }
    });
    const browser = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
    // Asked to close, Chromium ends its children too; the kill above is for one that does not.
    this.#closing.push(async () => {
      const session = await browser.newBrowserCDPSession();
      await Promise.all([once(child, 'exit', { signal: AbortSignal.timeout(5_000) }), session.send('Browser.close')]).catch(() => {});
    });
    this.#contexts.push(browser.contexts()[0]);
    return browser;
  }

  /** Closes this at the end. */
  keep(closeable) {
    this.#closing.push(() => closeable.close());
    return closeable;
  }

  /** Closes this at the end, and tells what its pages show where a test fails. */
  show(context) {
    this.keep(context);
    this.#contexts.push(context);
  }

  /** Lets an HTTP server of the test's own listen on a free port of loopback; gives its origin. */
  async serve(server) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#closing.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${server.address().port}`;
  }

  /** An empty folder. */
  makeFolder() {
    const folder = mkdtempSync(join(tmpdir(), 'stillhere-browser-'));
    this.#closing.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
    return folder;
  }

  /** What the open pages show, for the report of a failure. */
  async describe() {
    const pages = this.#contexts.flatMap((context) => context.pages());
    const told = await Promise.all(pages.map(async (page) => {
      const shown = page.evaluate(() => JSON.stringify({
        status: window.demo?.status,
        outcomes: window.demo?.outcomes,
        counts: window.demo?.counts,
        log: document.getElementById('log')?.innerText.split('\n').slice(0, 20),
        text: window.demo ? undefined : document.body?.innerText.slice(0, 500),
      }, null, 2));
      const text = await Promise.race([shown, sleep(2_000, 'no answer', { ref: false })]).catch((error) => error.message);
      return `\n\nThe page ${page.url()} shows ${text}`;
    }));
    return told.join('');
  }

  async clear() {
    const errors = [];
    for (const close of this.#closing.reverse()) {
      await Promise.resolve().then(close).catch((error) => errors.push(error));
    }
    if (errors.length > 0) throw new AggregateError(errors, 'the stage could not be cleared');
  }
}

/** A process that says where it listens. */
class Program {
  url = '';
  /** Resolves once pages can be had. */
  listening;
  /** Resolves to the exit code, null after a signal. */
  over;
  /** What it wrote to stderr. */
  complaints = '';
  #process;

  /** `variable` of the environment has the program's path. */
  constructor(variable, options, environment = {}) {
    const path = process.env[variable];
    assert.ok(path, `${variable} is the path of the program: run npm test`);
    this.#process = spawn(path, options, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
    this.#process.stderr.setEncoding('utf8').on('data', (text) => this.complain(text));
    this.over = once(this.#process, 'close').then(([code]) => code);
    this.listening = this.#readUrl();
  }

  complain(text) {
    this.complaints += text;
  }

  async #readUrl() {
    const lines = createInterface(this.#process.stdout);
    const [line] = await Promise.race([once(lines, 'line'), this.over.then((code) => [`the program ended: ${code}`])]);
    this.url = /http:\S+/.exec(line)?.[0];
    assert.ok(this.url, `${line}\n${this.complaints}`);
  }

  get port() {
    return Number(new URL(this.url).port);
  }

  /** As a deploy does. */
  terminate() {
    this.#process.kill('SIGTERM');
  }

  /** As a crash does. */
  async kill() {
    this.#process.kill('SIGKILL');
    await this.over;
  }
}

/** The demo's process. It writes to stderr only what should be seen. */
class Demo extends Program {
  constructor(port, options, variable = 'STILLHERE_DEMO') {
    super(variable, ['--addr', `127.0.0.1:${port}`, ...options]);
  }

  complain(text) {
    super.complain(text);
    process.stderr.write(text);
  }

  /** The same pages on an origin without Web Locks. */
  get insecureUrl() {
    return this.url.replace('127.0.0.1', INSECURE_HOST);
  }

  /** Does it to the session's newest connection, or to the session; gives the HTTP status. */
  async fault(id, kind) {
    const { status } = await fetch(`${this.url}/fault/${id}/${kind}`, { method: 'POST' });
    return status;
  }

  async ticket(name) {
    return (await fetch(`${this.url}/ticket/${name}`)).json();
  }
}

/** A port of loopback that nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Asks again and again until the answer is true, and gives it. */
export async function eventually(what, condition, timeout = 30_000) {
  const deadline = performance.now() + timeout;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeout} ms: ${what}`);
    await sleep(POLL);
  }
}

/** Waits until the condition holds in the page, and gives what it returned. It is asked from here, so the page may sleep or be replaced. */
export function until(page, condition, argument, timeout) {
  return eventually(`${condition} with ${JSON.stringify(argument)}`, async () => {
    try {
      return await page.evaluate(condition, argument);
    } catch (error) {
      if (/context was destroyed|Cannot find context/.test(error.message)) return false;
      throw error;
    }
  }, timeout);
}

/** Opens the demo's page in a tab and waits until it has its session and what the server keeps. */
export async function openDemo(context, url) {
  const page = await openTab(context, url);
  await untilReady(page);
  return page;
}

export async function openTab(context, url) {
  const page = context.pages().find((page) => page.url() === 'about:blank') ?? (await context.newPage());
  await page.goto(url);
  return page;
}

export const untilReady = (page) => until(page, () => window.demo?.readyAt !== undefined);
export const untilConnected = (page) => until(page, () => window.demo?.status.state === 'connected');
/** Until the demo is connected by this kind of connection. */
export const untilCarriedBy = (page, kind) =>
  until(page, (kind) => stillhere.session.connection === kind && window.demo?.status.state === 'connected', kind);
export const untilOver = (page) => until(page, () => ['ended', 'refused'].includes(window.demo?.status.state));

/** Reloads as F5 does. */
export async function reload(page) {
  await page.reload({ waitUntil: 'commit' });
  await untilReady(page);
}

/** What a test asks most. */
export const stateOf = (page) =>
  page.evaluate(() => {
    const { session, outcomes, status, value, note, documents, cuts } = window.demo;
    return { id: session.id, outcomes: [...outcomes], state: status.state, value, note, documents, cuts };
  });

/** Both streams go on, all that the page had sent so far arrives, and nothing was lost, doubled or moved. Gives the counts. */
export async function assertCountersClean(page) {
  const before = await page.evaluate(() => ({ sent: demo.sent, ...demo.counts }));
  await until(
    page,
    ({ sent, down, up }) => demo.counts.up.received > Math.max(sent, up.received) && demo.counts.down.received > down.received,
    before,
  );
  const counts = await page.evaluate(() => demo.counts);
  for (const [direction, { missing, doubled, outOfOrder }] of Object.entries(counts)) {
    assert.deepEqual({ missing, doubled, outOfOrder }, { missing: 0, doubled: 0, outOfOrder: 0 }, direction);
  }
  return counts;
}

/** Logs in to the application of drop-in/ at `url` and waits until its page is live. */
export async function openNotes(context, url, name) {
  const page = await openTab(context, url);
  await page.fill('#name', name);
  await page.click('button');
  await untilLive(page);
  return page;
}

/** The notes' page is connected and has been told what the server keeps. */
export const untilLive = (page) =>
  until(page, () => document.getElementById('status')?.dataset.state === 'connected' && !document.getElementById('draft').disabled);

/** What the notes' page shows, the newest note first. */
export const notesOf = (page) =>
  page.evaluate(() => ({
    id: stillhere.session.id,
    outcome: stillhere.session.status.outcome,
    draft: document.getElementById('draft').value,
    notes: [...document.querySelectorAll('#notes li')].map((note) => note.innerText.replace(/\n+/, ': ')),
  }));

/** Adds a note as a person does. */
export async function addNote(page, text) {
  await page.fill('#draft', text);
  await page.click('#add');
}

/** The newest note is this one. */
export const untilNewest = (page, note) =>
  until(page, (note) => document.querySelector('#notes li')?.innerText.replace(/\n+/, ': ') === note, note);

export const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Median and maximum, in whole milliseconds. */
export function spread(milliseconds) {
  return `median ${Math.round(median(milliseconds))} ms, maximum ${Math.round(Math.max(...milliseconds))} ms`;
}
