// One test body for every engine; run.mjs says which. A browser is started once for a file; each
// test has tabs and a demo, and so an origin, of its own.

import { after } from 'node:test';

import { browserTest } from '../support.mjs';
import { Puppeteer } from './puppeteer.mjs';
import { WebKit } from './webdriver.mjs';

/**
 * What the engines are, and where they differ by nature.
 *
 * `keepsPages`: a step back finds the page itself, in the back/forward cache. Firefox keeps none
 * that has an open WebSocket, a request under way or a Web Lock, and it looks before the page hears
 * that it is being left; so it loads the page anew. `duplicates`: a tab can be duplicated.
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
 * A test in this process's engine: `body` gets a stage, and the engine with `open`, which gives
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

  /** The tab that a page opens while `open` runs. */
  async opened(open) {
    return this.#keep(this.#browser.opened(open));
  }

  /** A copy of the tab, made by its menu. */
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
