// Runs one test body in every engine; run.mjs chooses the engine. Each file starts one browser, and
// each test has its own tabs and demo, and thus its own origin.

import { after } from 'node:test';

import { browserTest } from '../support.mjs';
import { Puppeteer } from './puppeteer.mjs';
import { WebKit } from './webdriver.mjs';

/**
 * The engines and their inherent differences.
 *
 * `keepsPages`: going back restores the page from the back/forward cache. Firefox keeps no page
 * that has an open WebSocket, a pending request or a Web Lock. It checks this before the page
 * learns that it is being left, so it loads the page again. `duplicates`: tabs can be duplicated.
 * MiniBrowser has no such menu.
 */
const ENGINES = {
  chromium: { launch: Puppeteer.launchChromium, keepsPages: true, duplicates: true },
  firefox: { launch: Puppeteer.launchFirefox, keepsPages: false, duplicates: true },
  webkit: { launch: WebKit.launch, keepsPages: true, duplicates: false },
};

const { [process.env.STILLHERE_ENGINE]: ENGINE } = ENGINES;
let browser;
after(async () => (await browser)?.close());

/**
 * Defines a test in this process's engine. `body` gets a stage and the engine, whose `open` returns
 * tabs that are closed afterwards.
 *
 * @param {string} name
 * @param {(stage: Stage, engine: Engine) => Promise<void>} body
 * @param {{ timeout?: number }} options milliseconds
 */
export function engineTest(name, body, options) {
  browserTest(name, async (stage) => {
    browser ??= ENGINE.launch();
    await body(stage, new Engine(await browser, stage));
  }, options);
}

/** The engine as one test sees it. */
class Engine {
  #browser;
  #tabs = [];

  constructor(browser, stage) {
    Object.assign(this, ENGINE);
    this.#browser = browser;
    stage.show({ pages: () => this.#tabs, close: () => this.#close() });
  }

  async open(url) {
    const tab = await this.#keep(this.#browser.newTab());
    await tab.goto(url);
    return tab;
  }

  /** Returns the tab that a page opens while `open` runs. */
  async opened(open) {
    return this.#keep(this.#browser.opened(open));
  }

  /** Duplicates the tab through its menu. */
  async duplicate(tab) {
    return this.#keep(this.#browser.duplicate(tab));
  }

  async #keep(opening) {
    const tab = await opening;
    this.#tabs.push(tab);
    return tab;
  }

  async #close() {
    for (const tab of this.#tabs.splice(0)) await tab.close();
  }
}
