// <stillhere-badge>: tells people when the connection is lost, and when their session is over.

import type { Session, Status } from '../index';
import { STYLE } from './style';
import { type BadgeTexts, type BadgeView, ENGLISH, viewOf } from './view';

export { ENGLISH } from './view';
export type { BadgeTexts } from './view';

/** What the badge needs of a session: a `Session`, or an `AppSession`. */
export type Watched = Pick<Session, 'status' | 'onstatus' | 'retry'> & { watchStatus?(watcher: (status: Status) => void): () => void };

/** Milliseconds between two looks at the clock while something is wrong. */
const TICK = 250;

/**
 * The element. It shows `session`, or the script tag's session if none is set. It never reloads by
 * itself; with the attribute `reload` it offers a button that does. The attribute `inline` takes it
 * into the flow of the page.
 */
export class StillhereBadge extends HTMLElement {
  #session: Watched | null = null;
  #texts: BadgeTexts = ENGLISH;
  #since = 0;
  #unwatch: (() => void) | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #box = document.createElement('div');
  readonly #text = document.createElement('span');
  readonly #detail = document.createElement('small');
  readonly #button = document.createElement('button');

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    // A style element would need `style-src 'unsafe-inline'`.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const message = document.createElement('span');
    this.#text.setAttribute('role', 'status');
    this.#text.setAttribute('aria-live', 'polite');
    this.#box.setAttribute('part', 'badge');
    this.#button.setAttribute('part', 'button');
    this.#button.type = 'button';
    message.append(this.#text, this.#detail);
    this.#box.append(message, this.#button);
    root.append(this.#box);
    this.#button.addEventListener('click', () => this.#act());
  }

  get session(): Watched | null {
    return this.#session;
  }

  set session(session: Watched | null) {
    this.#session = session;
    if (this.isConnected) this.#watch();
  }

  /** Texts in the language of the page. Those that are left out stay English. */
  get texts(): BadgeTexts {
    return this.#texts;
  }

  set texts(texts: Partial<BadgeTexts>) {
    this.#texts = { ...ENGLISH, ...texts };
    this.#show();
  }

  connectedCallback(): void {
    this.#session ??= (window as { stillhere?: { session: Session | null } }).stillhere?.session ?? null;
    this.#watch();
  }

  disconnectedCallback(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    clearInterval(this.#timer);
  }

  #watch(): void {
    this.disconnectedCallback();
    const session = this.#session;
    if (session) this.#unwatch = session.watchStatus ? session.watchStatus(() => this.#change()) : chain(session, () => this.#change());
    this.#change();
  }

  #change(): void {
    const state = this.#session?.status.state ?? 'connected';
    clearInterval(this.#timer);
    if (state === 'connected') this.#since = 0;
    else {
      this.#since ||= Date.now();
      // The time of the next attempt changes without an event.
      this.#timer = setInterval(() => this.#show(), TICK);
    }
    this.#show();
  }

  #show(): void {
    const view = this.#session && viewOf(this.#session.status, this.#since, Date.now(), this.#texts);
    if (!view) {
      delete this.#box.dataset['state'];
      return write(this.#text, '');
    }
    this.#box.dataset['state'] = view.state;
    write(this.#text, view.text);
    write(this.#detail, view.detail);
    this.#showButton(view.action);
  }

  #showButton(action: BadgeView['action']): void {
    const isShown = action === 'retry' || (action === 'reload' && this.hasAttribute('reload'));
    this.#button.hidden = !isShown;
    this.#button.dataset['action'] = action ?? '';
    write(this.#button, action === 'reload' ? this.#texts.reload : this.#texts.tryNow);
  }

  #act(): void {
    if (this.#button.dataset['action'] === 'reload') location.reload();
    else this.#session?.retry();
  }
}

/** Sets a text only if it differs, because a screen reader reads each change. */
function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Watches a session that has one hook only, and leaves the page's hook in place. */
function chain(session: Watched, watcher: () => void): () => void {
  const before = session.onstatus;
  let isWatching = true;
  session.onstatus = (status) => {
    before?.(status);
    if (isWatching) watcher();
  };
  return () => void (isWatching = false);
}

if (!customElements.get('stillhere-badge')) customElements.define('stillhere-badge', StillhereBadge);
