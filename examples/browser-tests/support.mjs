// What the browser tests share: a stage with a demo and Chromium of their own, and conditions to wait for.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { chromium } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';
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
 * @param {{ timeout?: number }} options milliseconds
 */
export function browserTest(name, body, { timeout = 60_000 } = {}) {
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

  /** A demo on a free port of loopback, or on the one of a demo that is gone. */
  async startDemo(port = 0) {
    const demo = new Demo(port);
    this.#closing.push(async () => {
      await demo.kill();
      assert.doesNotMatch(demo.complaints, /panicked/, 'the demo panicked');
    });
    await demo.listening;
    return demo;
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
    this.#closing.push(() => context.close());
    this.#contexts.push(context);
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

/** The demo's process. */
class Demo {
  url = '';
  /** Resolves once pages can be had. */
  listening;
  /** Resolves to the exit code, null after a signal. */
  over;
  /** What it wrote to stderr. */
  complaints = '';
  #process;

  constructor(port) {
    const program = process.env.STILLHERE_DEMO;
    assert.ok(program, 'STILLHERE_DEMO is the path of the demo: run npm test');
    this.#process = spawn(program, ['--addr', `127.0.0.1:${port}`], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process.stderr.setEncoding('utf8').on('data', (text) => {
      this.complaints += text;
      process.stderr.write(text);
    });
    this.over = once(this.#process, 'close').then(([code]) => code);
    this.listening = this.#readUrl();
  }

  async #readUrl() {
    const lines = createInterface(this.#process.stdout);
    const [line] = await Promise.race([once(lines, 'line'), this.over.then((code) => [`the demo ended: ${code}`])]);
    this.url = /http:\S+/.exec(line)?.[0];
    assert.ok(this.url, line);
  }

  /** The same pages on an origin without Web Locks. */
  get insecureUrl() {
    return this.url.replace('127.0.0.1', INSECURE_HOST);
  }

  get port() {
    return Number(new URL(this.url).port);
  }

  /** Does it to the session's newest connection, or to the session; gives the HTTP status. */
  async fault(id, kind) {
    const { status } = await fetch(`${this.url}/fault/${id}/${kind}`, { method: 'POST' });
    return status;
  }

  async ticket(name) {
    return (await fetch(`${this.url}/ticket/${name}`)).json();
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

export const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Median and maximum, in whole milliseconds. */
export function spread(milliseconds) {
  return `median ${Math.round(median(milliseconds))} ms, maximum ${Math.round(Math.max(...milliseconds))} ms`;
}
