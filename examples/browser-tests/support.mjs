// Shared code of the browser tests: a stage with a demo and Chromium for each test, and conditions
// to wait for.

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
/**
 * A name of 127.0.0.1 that Chromium does not trust: its pages have no secure context and no Web
 * Locks.
 */
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

/** Returns how often a long test repeats something that it repeats `count` times in a full run. */
export const repetitions = (count) => Math.ceil(count * SHARE);

/**
 * Defines a test in a browser. `body` gets a stage, and everything started there is closed in any
 * case.
 *
 * @param {string} name
 * @param {(stage: Stage) => Promise<void>} body
 * @param {{ timeout?: number }} options milliseconds, by default several times what a test takes on
 *   a busy machine; three times as many where all repetitions run
 */
export function browserTest(name, body, { timeout: usual = 180_000 } = {}) {
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
      // Chromium prints long complaints about the missing desktop.
      error.message = error.message.replace(/^.*\bdbus\b.*\n/gm, '') + (await stage.describe());
      throw error;
    } finally {
      expired.catch(() => {});
      expiry.abort();
      await stage.clear();
    }
  });
}

/** Everything that one test has started. */
class Stage {
  #test;
  /** Closes what was started, in reverse order. */
  #closing = [];
  #contexts = [];

  constructor(test) {
    this.#test = test;
  }

  /** Prints a figure in the output of the run. */
  report(text) {
    this.#test.diagnostic(text);
  }

  /**
   * Starts a demo with these extra arguments, on a free loopback port or on the port of a stopped
   * demo.
   */
  async startDemo(port = 0, ...options) {
    return this.#start(new Demo(port, ['--allow-host', INSECURE_HOST, ...options]));
  }

  /** Starts the demo over WebRTC. */
  async startWebrtc(port = 0) {
    return this.#start(new Demo(port, [], 'STILLHERE_WEBRTC'));
  }

  /** Starts the application in drop-in/ on a free loopback port, with these extra arguments. */
  async startDropIn(...options) {
    return this.#start(new Program('STILLHERE_DROP_IN', ['--addr', '127.0.0.1:0', ...options]));
  }

  /** Starts the recipes' program with these environment variables. */
  async startRecipes(environment = {}) {
    return this.#start(new Program('STILLHERE_RECIPES', ['127.0.0.1:0'], environment));
  }

  /** Starts an example whose first argument is its address. */
  async startExample(name, ...options) {
    return this.#start(new Program(`STILLHERE_${name.toUpperCase().replace('-', '_')}`, ['127.0.0.1:0', ...options]));
  }

  async #start(program) {
    this.#closing.push(async () => {
      await program.kill();
      assert.doesNotMatch(program.complaints, /panicked/, 'the program panicked');
    });
    await program.listening;
    return program;
  }

  /**
   * Starts nginx in front of this program, as in drop-in/nginx.conf; returns the application's
   * address.
   */
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

  /** Starts Chromium with a new profile; returns Playwright's context. */
  async openChromium({ args = [], ...options } = {}) {
    const profile = this.makeFolder();
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      headless: true,
      args: [...ARGUMENTS, ...args],
      ...options,
    });
    // Against hanging only: a page may have to wait for a connection that other tabs hold.
    context.setDefaultNavigationTimeout(90_000);
    this.show(context);
    return context;
  }

  /**
   * Starts Chromium without Playwright's changes to every page, because only then can a page be
   * hidden and frozen.
   */
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
    // On a close request, Chromium also ends its children. The kill above is for one that hangs.
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

  /** Closes this at the end, and reports what its pages show if the test fails. */
  show(context) {
    this.keep(context);
    this.#contexts.push(context);
  }

  /** Makes a test's HTTP server listen on a free loopback port; returns its origin. */
  async serve(server) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#closing.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${server.address().port}`;
  }

  /** Creates an empty folder. */
  makeFolder() {
    const folder = mkdtempSync(join(tmpdir(), 'stillhere-browser-'));
    this.#closing.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
    return folder;
  }

  /** Describes what the open pages show, for the report of a failure. */
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

/** A process that prints its listening address. */
class Program {
  url = '';
  /** Resolves once the process serves pages. */
  listening;
  /** Resolves to the exit code, null after a signal. */
  over;
  /** Output of the process on stderr. */
  complaints = '';
  #process;

  /** The environment variable `variable` contains the program's path. */
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

  /** Stops the process as a deploy does. */
  terminate() {
    this.#process.kill('SIGTERM');
  }

  /** Kills the process, like a crash. */
  async kill() {
    this.#process.kill('SIGKILL');
    await this.over;
  }
}

/** The process of the demo. It writes only real problems to stderr. */
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

  /**
   * Injects the fault into the session's newest connection, or into the session; returns the HTTP
   * status.
   */
  async fault(id, kind) {
    const { status } = await fetch(`${this.url}/fault/${id}/${kind}`, { method: 'POST' });
    return status;
  }

  async ticket(name) {
    return (await fetch(`${this.url}/ticket/${name}`)).json();
  }
}

/** Returns a free loopback port. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Polls until the answer is truthy, and returns it. */
export async function eventually(what, condition, timeout = 30_000) {
  const deadline = performance.now() + timeout;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeout} ms: ${what}`);
    await sleep(POLL);
  }
}

/**
 * Waits until the condition holds in the page, and returns its value. Polls from outside, so the
 * page may sleep or be replaced.
 */
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

/** Opens the demo's page in a tab and waits until it has its session and the server's state. */
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
/** Waits until the demo is connected over this kind of connection. */
export const untilCarriedBy = (page, kind) =>
  until(page, (kind) => stillhere.session.connection === kind && window.demo?.status.state === 'connected', kind);
export const untilOver = (page) => until(page, () => ['ended', 'refused'].includes(window.demo?.status.state));

/** Reloads as F5 does. */
export async function reload(page) {
  await page.reload({ waitUntil: 'commit' });
  await untilReady(page);
}

/** Returns the values that tests use most. */
export const stateOf = (page) =>
  page.evaluate(() => {
    const { session, outcomes, status, value, note, documents, cuts } = window.demo;
    return { id: session.id, outcomes: [...outcomes], state: status.state, value, note, documents, cuts };
  });

/**
 * Checks that both streams continue, that everything the page has sent arrives, and that nothing
 * was lost, duplicated or reordered. Returns the counts.
 */
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

/** Logs in to the application in drop-in/ at `url` and waits until its page is live. */
export async function openNotes(context, url, name) {
  const page = await openTab(context, url);
  await page.fill('#name', name);
  await page.click('button');
  await untilLive(page);
  return page;
}

/** Waits until the notes page is connected and has the server's state. */
export const untilLive = (page) =>
  until(page, () => document.getElementById('status')?.dataset.state === 'connected' && !document.getElementById('draft').disabled);

/** Returns what the notes page shows, the newest note first. */
export const notesOf = (page) =>
  page.evaluate(() => ({
    id: stillhere.session.id,
    outcome: stillhere.session.status.outcome,
    draft: document.getElementById('draft').value,
    notes: [...document.querySelectorAll('#notes li')].map((note) => note.innerText.replace(/\n+/, ': ')),
  }));

/** Adds a note as a user does. */
export async function addNote(page, text) {
  await page.fill('#draft', text);
  await page.click('#add');
}

/** Waits until the newest note is this one. */
export const untilNewest = (page, note) =>
  until(page, (note) => document.querySelector('#notes li')?.innerText.replace(/\n+/, ': ') === note, note);

export const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Formats the median and the maximum in whole milliseconds. */
export function spread(milliseconds) {
  return `median ${Math.round(median(milliseconds))} ms, maximum ${Math.round(Math.max(...milliseconds))} ms`;
}
