// Drives Firefox over WebDriver BiDi and Chromium over its own protocol, both through Puppeteer.

import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import puppeteer from 'puppeteer-core';

const FIREFOX = { browser: 'firefox', executablePath: '/usr/bin/firefox-esr' };
const CHROMIUM = { browser: 'chrome', executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'], enableExtensions: true };

/** Duplicates a tab as its menu does, when a page requests it by an event. */
const MANIFEST = {
  manifest_version: 3,
  name: 'duplicate',
  version: '1',
  permissions: ['tabs'],
  host_permissions: ['http://*/*'],
  // Each browser uses the key it knows.
  background: { scripts: ['background.js'], service_worker: 'background.js' },
  content_scripts: [{ matches: ['http://*/*'], js: ['content.js'], run_at: 'document_start' }],
};
const BACKGROUND = `const { runtime, tabs } = globalThis.browser ?? chrome;
runtime.onMessage.addListener((_, { tab }) => void tabs.duplicate(tab.id));`;
const CONTENT = `addEventListener('duplicate-this-tab', () => (globalThis.browser ?? chrome).runtime.sendMessage('duplicate'));`;

const EXTENSION = { 'manifest.json': JSON.stringify(MANIFEST), 'background.js': BACKGROUND, 'content.js': CONTENT };

export class Puppeteer {
  #browser;
  #folder = mkdtempSync(join(tmpdir(), 'stillhere-engine-'));

  static launchFirefox = () => Puppeteer.#launch(FIREFOX);
  static launchChromium = () => Puppeteer.#launch(CHROMIUM);

  static async #launch(options) {
    const engine = new Puppeteer();
    const [profile, extension] = ['profile', 'extension'].map((name) => join(engine.#folder, name));
    mkdirSync(extension);
    for (const [name, text] of Object.entries(EXTENSION)) writeFileSync(join(extension, name), text);
    engine.#browser = await puppeteer.launch({ headless: true, userDataDir: profile, ...options });
    await engine.#browser.installExtension(extension);
    return engine;
  }

  /** Kills the browser, because Firefox with an extension takes five seconds to close. */
  async close() {
    const child = this.#browser.process();
    const isOver = once(child, 'exit');
    if (child.exitCode === null && child.signalCode === null) {
      // Kills its helpers too, which would keep writing to the folder. Puppeteer makes the browser
      // the leader of a process group.
      process.kill(-child.pid, 'SIGKILL');
      await isOver;
    }
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  }

  async newTab() {
    const tab = await this.#browser.newPage();
    await tab.setViewport({ width: 1280, height: 1000 });
    return tab;
  }

  /** Returns the tab that a page opens while `open` runs. */
  async opened(open) {
    const target = new Promise((resolve) => this.#browser.once('targetcreated', resolve));
    await open();
    return (await target).page();
  }

  /** Duplicates the tab as its menu does. */
  async duplicate(tab) {
    return this.opened(() => tab.evaluate(() => void dispatchEvent(new Event('duplicate-this-tab'))));
  }
}
