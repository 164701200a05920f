import type { Environment } from './environment';

/** Describes what keeps the page from its session, as far as a browser shows it. */
export interface Obstacle {
  /**
   * `unreachable`: the request failed. `silent`: there was no answer. `redirected`: most likely to
   * a login page. `refused`: with the HTTP status `status`. `foreign`: the answer is not the
   * server's, but for example a captive portal's. `too-large`: a POST that cannot be made smaller
   * was refused with 413.
   */
  readonly kind: 'unreachable' | 'silent' | 'redirected' | 'refused' | 'foreign' | 'too-large';
  /** The HTTP status, or 0 if there was none. */
  readonly status: number;
  /** Says what the obstacle is and what helps, for the operator of the application. */
  readonly text: string;
}

/** Remedies by HTTP status. For all others, see the server's log. */
const HINTS: Record<number, string> = {
  401: 'a proxy wants a login',
  403: 'check the firewall and the CORS filter',
  404: 'the session is not served there',
  407: 'a proxy wants a login',
  429: 'raise the rate limit there',
};

/** Tracks the last obstacle and reports each one to the console once. */
export class Obstacles {
  readonly #console: Environment['console'];
  #current: Obstacle | null = null;
  readonly #met = new Map<string, number>();

  constructor({ console }: Environment) {
    this.#console = console;
  }

  get current(): Obstacle | null {
    return this.#current;
  }

  /** Records that an attempt got no answer at all. */
  meetNone(isSilent: boolean, url: string): void {
    const what = isSilent ? 'does not answer' : 'cannot be reached';
    this.#current = { kind: isSilent ? 'silent' : 'unreachable', status: 0, text: `${url} ${what}` };
  }

  /** Records an answer to a POST that did not come from the server. */
  meetAnswer({ type, status, headers }: Response, url: string): void {
    if (type === 'opaqueredirect') this.#meet('redirected', 0, url, 'redirected, perhaps to a login page: log in again, or exempt the address');
    else if (status === 200) this.#meet('foreign', status, url, `answered with ${headers.get('content-type')} by a captive portal, a login page or a service worker`);
    else this.#meet('refused', status, url, `answered ${status}: ${HINTS[status] ?? 'see the logs of the server and its proxy'}`);
  }

  /** Records that a POST of this many bytes, a single frame, was refused with 413. */
  meetTooLarge(size: number, url: string): void {
    this.#meet('too-large', 413, url, `answered 413 at ${size} bytes: raise the proxy's limit (nginx: client_max_body_size), or lower the fragment size`);
  }

  /** Clears the obstacle after the server answered; `too-large` only if `isAll`. */
  clear(isAll: boolean): void {
    if (isAll || this.#current?.kind !== 'too-large') this.#current = null;
  }

  #meet(kind: Obstacle['kind'], status: number, url: string, what: string): void {
    const text = `POSTs to ${url} are ${what}`;
    if (this.#current?.text !== text) this.#current = { kind, status, text };
    const key = `${kind} ${status}`;
    const times = (this.#met.get(key) ?? 0) + 1;
    this.#met.set(key, times);
    if (times === 2) this.#console.error(`stillhere: ${text}.`);
  }
}
