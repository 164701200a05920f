// A fake browser: pages with a clock, tasks, storage, locks and channels, all controlled by the
// test.

import type { Environment, Frame, Port, Queryable, Socket } from '../src/environment';
import type { Bytes } from '../src/wire';

interface Timer {
  at: number;
  run: () => void;
}

/** State shared by the pages of one browser. */
export class FakeBrowser {
  /** Both clocks, in milliseconds; only `wall` advances during sleep. */
  steady = 0;
  wall = 1_800_000_000_000;
  readonly tasks: (() => void)[] = [];
  readonly timers = new Set<Timer>();
  readonly lockHolders = new Map<string, FakePage>();
  readonly channels = new Set<FakeChannel>();

  /** Runs every task that is due, each with its microtasks. */
  async settle(): Promise<void> {
    for (;;) {
      await new Promise(setImmediate);
      const task = this.tasks.shift();
      if (!task) return;
      task();
    }
  }

  /** Lets time pass, timer by timer. */
  async advance(time: number): Promise<void> {
    const end = this.steady + time;
    for (;;) {
      await this.settle();
      const [next] = [...this.timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.pass(Math.max(0, next.at - this.steady));
      this.timers.delete(next);
      next.run();
    }
    this.pass(end - this.steady);
  }

  /** Advances the time within a task. */
  pass(time: number): void {
    this.steady += time;
    this.wall += time;
  }

  /** Puts the machine to sleep: the steady clock and the timers stop. */
  sleep(time: number): void {
    this.wall += time;
  }
}

/** `sessionStorage` of one tab. */
export class FakeStorage {
  readonly items = new Map<string, string>();
  isForbidden = false;

  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.items.set(key, value);
  }

  removeItem(key: string): void {
    this.items.delete(key);
  }
}

export class FakeSocket implements Socket {
  binaryType = '';
  bufferedAmount = 0;
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  /** Frames that the page has sent and the test has not read. */
  sent: Bytes[] = [];
  closedWith: number | undefined;

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  send(data: Bytes): void {
    this.sent.push(data.slice());
  }

  close(code: number): void {
    if (code !== 1000 && (code < 3000 || code > 4999)) throw new Error(`a browser does not close with ${code}`);
    this.closedWith ??= code;
  }

  open(): void {
    this.onopen?.({} as Event);
  }

  receive(data: Bytes | string): void {
    this.onmessage?.({ data: typeof data === 'string' ? data : data.slice().buffer } as MessageEvent);
  }

  fail(): void {
    this.onerror?.({} as Event);
  }

  lose(code = 1006): void {
    this.onclose?.({ code } as CloseEvent);
  }

  /** The frames sent since the last call. */
  read(): Bytes[] {
    return this.sent.splice(0);
  }
}

export class FakeChannel implements Port {
  onmessage: Port['onmessage'] = null;
  readonly #browser: FakeBrowser;

  constructor(
    browser: FakeBrowser,
    readonly name: string,
  ) {
    this.#browser = browser;
    browser.channels.add(this);
  }

  postMessage(data: unknown): void {
    for (const other of this.#browser.channels) {
      if (other !== this && other.name === this.name) {
        this.#browser.tasks.push(() => other.onmessage?.({ data } as MessageEvent));
      }
    }
  }

  close(): void {
    this.#browser.channels.delete(this);
  }
}

export interface PageOptions {
  browser?: FakeBrowser;
  storage?: FakeStorage;
  navigation?: string;
  href?: string;
  /** The page's address, unless a `base` element changes it. */
  base?: string;
  self?: Frame;
  hidden?: boolean;
  prerendering?: boolean;
  withoutLocks?: boolean;
  withoutChannels?: boolean;
}

/** One document. */
export class FakePage implements Environment {
  readonly browser: FakeBrowser;
  readonly sockets: FakeSocket[] = [];
  readonly errors: string[] = [];
  /** Current content of the document. */
  html = '';
  /** Thrown by `new WebSocket`. */
  refusal: Error | undefined;

  readonly storage: FakeStorage;
  readonly location: URL;
  readonly self: Frame;
  readonly document: EventTarget & { baseURI: string; hidden: boolean; prerendering: boolean; querySelectorAll: Queryable['querySelectorAll'] };
  readonly DOMParser: NonNullable<Environment['DOMParser']> = class {
    parseFromString(html: string): Queryable {
      return { querySelectorAll: () => elementsOf(html) };
    }
  };
  readonly performance: Environment['performance'];
  readonly Date: Environment['Date'];
  readonly Math = { random: () => 0.4999 };
  readonly console = { error: (...values: readonly unknown[]) => void this.errors.push(values.join(' ')) };
  readonly crypto = { getRandomValues: (array: Bytes) => array.fill(7) };
  readonly navigator: Environment['navigator'];
  readonly WebSocket: Environment['WebSocket'];
  readonly MessageChannel: Environment['MessageChannel'];
  readonly DecompressionStream = DecompressionStream as unknown as NonNullable<Environment['DecompressionStream']>;
  readonly BroadcastChannel?: NonNullable<Environment['BroadcastChannel']>;
  readonly #window = new EventTarget();

  constructor(options: PageOptions = {}) {
    const { browser = new FakeBrowser(), storage = new FakeStorage(), navigation = 'navigate' } = options;
    this.browser = browser;
    this.storage = storage;
    this.location = new URL(options.href ?? 'https://example.com/page?q=1');
    this.self = options.self ?? new FakeFrame();
    const { base = this.location.href, hidden = false, prerendering = false } = options;
    this.document = Object.assign(new EventTarget(), { baseURI: base, hidden, prerendering, querySelectorAll: () => elementsOf(this.html) });
    this.performance = { now: () => browser.steady, getEntriesByType: () => [{ type: navigation }] };
    this.Date = { now: () => browser.wall };
    this.navigator = { onLine: true, ...(options.withoutLocks ? {} : { locks: { request: (name, _options, granted) => this.#requestLock(name, granted) } }) };
    const page = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url: string, protocol: string) {
        if (page.refusal) throw page.refusal;
        super(url, protocol);
        page.sockets.push(this);
      }
    };
    this.MessageChannel = class {
      readonly port1: Port = { onmessage: null, postMessage() {}, close() {} };
      readonly port2: Port = {
        onmessage: null,
        postMessage: (data) => void browser.tasks.push(() => this.port1.onmessage?.({ data } as MessageEvent)),
        close() {},
      };
    };
    if (!options.withoutChannels) {
      this.BroadcastChannel = class extends FakeChannel {
        constructor(name: string) {
          super(browser, name);
        }
      };
    }
  }

  get sessionStorage(): FakeStorage {
    if (this.storage.isForbidden) throw new Error('SecurityError');
    return this.storage;
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  setTimeout(run: () => void, delay: number): unknown {
    const timer = { at: this.browser.steady + Math.max(0, Math.trunc(delay)), run };
    this.browser.timers.add(timer);
    return timer;
  }

  clearTimeout(timer: unknown): void {
    this.browser.timers.delete(timer as Timer);
  }

  addEventListener(...parameters: Parameters<Environment['addEventListener']>): void {
    this.#window.addEventListener(...parameters);
  }

  /** Dispatches an event of the window. */
  emit(type: string, members: object = {}): void {
    this.#window.dispatchEvent(Object.assign(new Event(type), members));
  }

  setHidden(hidden: boolean): void {
    this.document.hidden = hidden;
    this.document.dispatchEvent(new Event('visibilitychange'));
  }

  /** Removes the page for good without any event, as a crash does. */
  die(): void {
    for (const [name, holder] of this.browser.lockHolders) if (holder === this) this.browser.lockHolders.delete(name);
  }

  async #requestLock(name: string, granted: (lock: object | null) => Promise<void> | undefined): Promise<void> {
    await undefined;
    const { lockHolders } = this.browser;
    if (lockHolders.has(name)) {
      await granted(null);
      return;
    }
    lockHolders.set(name, this);
    await granted({});
    lockHolders.delete(name);
  }
}

/** A frame; the top frame is its own parent. */
export class FakeFrame implements Frame {
  readonly [index: number]: Frame;
  readonly parent: Frame;
  readonly length: number = 0;

  constructor(parent?: FakeFrame) {
    this.parent = parent ?? this;
    if (parent) Array.prototype.push.call(parent, this);
  }
}

/** Elements that contain a ticket. */
function elementsOf(html: string): { localName: string; getAttribute(): string }[] {
  return [...html.matchAll(/<(\w+) data-stillhere='([^']*)'/g)].map(([, localName, ticket]) => ({ localName: localName!, getAttribute: () => ticket! }));
}
