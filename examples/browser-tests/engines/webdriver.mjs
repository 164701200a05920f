// Drives WebKitGTK over WebDriver, on a separate virtual screen.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { eventually, freePort } from '../support.mjs';

const SCREEN = ['-displayfd', '3', '-screen', '0', '1400x1400x24', '-nolisten', 'tcp'];
/** WebDriver's name for a reference to an element. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';

/**
 * Debian installs it in the library's folder, whose name contains the version and the architecture.
 */
function findMiniBrowser() {
  const folders = readdirSync('/usr/lib', { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name.endsWith('-linux-gnu'));
  for (const { name } of folders) {
    for (const library of readdirSync(join('/usr/lib', name)).filter((name) => name.startsWith('webkit2gtk-')).sort().reverse()) {
      const path = join('/usr/lib', name, library, 'MiniBrowser');
      if (readdirSync(join('/usr/lib', name, library)).includes('MiniBrowser')) return path;
    }
  }
  throw new Error('there is no MiniBrowser: webkit2gtk-driver of Debian depends on the package that has it');
}

export class WebKit {
  #screen;
  #driver;
  #address;
  #session;
  /**
   * The first window. It stays open, because the driver opens other windows from the current one.
   */
  #first;
  /**
   * Serializes commands, because the driver has one current tab and a command must reach its own
   * tab.
   */
  #turn = Promise.resolve();

  static async launch() {
    const engine = new WebKit();
    try {
      await engine.#launch();
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  async #launch() {
    this.#screen = spawn('Xvfb', SCREEN, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
    const [display] = await once(this.#screen.stdio[3], 'data');
    const port = await freePort();
    const env = { ...process.env, DISPLAY: `:${String(display).trim()}` };
    this.#driver = spawn('WebKitWebDriver', ['-p', String(port)], { env, stdio: 'ignore' });
    this.#address = `http://127.0.0.1:${port}`;
    await eventually('WebKitWebDriver answers', () => this.#ask('GET', '/status').then(() => true, () => false));
    const options = { binary: findMiniBrowser(), args: ['--automation'] };
    const { sessionId } = await this.#ask('POST', '/session', { capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': options } } });
    this.#session = `/session/${sessionId}`;
    [this.#first] = await this.#handles();
  }

  async close() {
    if (this.#session) await this.#ask('DELETE', this.#session).catch(() => {});
    for (const child of [this.#driver, this.#screen]) {
      if (child?.kill('SIGTERM')) await once(child, 'exit');
    }
  }

  async newTab() {
    const { handle } = await this.on(this.#first, 'POST', '/window/new', { type: 'window' });
    return new Tab(this, handle);
  }

  /** Returns the tabs that a page opens while `open` runs. */
  async opened(open) {
    const before = await this.#handles();
    await open();
    const handle = await eventually('a tab opens', async () => (await this.#handles()).find((handle) => !before.includes(handle)));
    return new Tab(this, handle);
  }

  #handles() {
    return this.#ask('GET', `${this.#session}/window/handles`);
  }

  /** Sends a command for the tab with this handle. */
  on(handle, method, path, body) {
    const asked = this.#turn.then(async () => {
      await this.#ask('POST', `${this.#session}/window`, { handle });
      return this.#ask(method, this.#session + path, body);
    });
    this.#turn = asked.catch(() => {});
    return asked;
  }

  async #ask(method, path, body) {
    const options = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const response = await fetch(this.#address + path, { method, ...options });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  }
}

/** The part of Playwright's page interface that the tests use. */
class Tab {
  #engine;
  #handle;
  #url = '';

  constructor(engine, handle) {
    this.#engine = engine;
    this.#handle = handle;
  }

  url() {
    return this.#url;
  }

  async goto(url) {
    this.#url = url;
    await this.#ask('POST', '/url', { url });
  }

  reload() {
    return this.#ask('POST', '/refresh', {});
  }

  /** Clicks as a user does, which allows what requires user activation, such as opening a tab. */
  async click(selector) {
    const element = await this.#ask('POST', '/element', { using: 'css selector', value: selector });
    await this.#ask('POST', `/element/${element[ELEMENT]}/click`, {});
  }

  async evaluate(run, argument) {
    const script = `const [argument, done] = arguments;
      Promise.resolve(argument).then(${run}).then((value) => done([JSON.stringify(value)]), (error) => done(String(error)));`;
    const told = await this.#ask('POST', '/execute/async', { script, args: [argument ?? null] });
    if (typeof told === 'string') throw new Error(told);
    return told[0] === null ? undefined : JSON.parse(told[0]);
  }

  async screenshot() {
    return Buffer.from(await this.#ask('GET', '/screenshot'), 'base64');
  }

  bringToFront() {
    return this.#ask('GET', '/url');
  }

  close() {
    return this.#ask('DELETE', '/window');
  }

  #ask(method, path, body) {
    return this.#engine.on(this.#handle, method, path, body);
  }
}
