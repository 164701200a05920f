import type { Environment } from './environment';

/** What stands between the page and its session, as far as a browser shows it. */
export interface Obstacle {
  /**
   * `unreachable`: the request failed; `silent`: no answer; `redirected`: to a login page, most
   * likely; `refused`: by the HTTP status `status`; `foreign`: an answer that is not the server's,
   * of a captive portal for one; `too-large`: a POST that cannot be made smaller was refused with
   * 413.
   */
  readonly kind: 'unreachable' | 'silent' | 'redirected' | 'refused' | 'foreign' | 'too-large';
  /** The HTTP status, 0 where there is none to be seen. */
  readonly status: number;
  /** What it is and what helps, for whoever runs the application. */
  readonly text: string;
}

/** What helps against a status; the rest is a matter for the server's log. */
const HINTS: Record<number, string> = {
  401: 'a login stands before the server',
  403: 'a firewall or a CORS filter stands before the server',
  404: 'the session is not served there',
  407: 'the proxy wants a login',
  429: 'raise the rate limit there',
};

/** What was last met, and what of it the console has been told. */
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

  /** An attempt got no answer at all. */
  meetNone(isSilent: boolean, url: string): void {
    const what = isSilent ? 'does not answer' : 'cannot be reached';
    this.#current = { kind: isSilent ? 'silent' : 'unreachable', status: 0, text: `${url} ${what}` };
  }

  /** The answer to a POST that is none of the server's. */
  meetAnswer({ type, status, headers }: Response, url: string): void {
    if (type === 'opaqueredirect') this.#meet('redirected', 0, url, 'redirected, to a login page perhaps: log in again, or exempt the address');
    else if (status === 200) this.#meet('foreign', status, url, `answered with ${headers.get('content-type')} by a captive portal, a login page or a service worker, not by the server`);
    else this.#meet('refused', status, url, `answered ${status}: ${HINTS[status] ?? 'see the logs of the server and its proxy'}`);
  }

  /** One of these bytes, as small as one frame lets it be, was refused with 413. */
  meetTooLarge(size: number, url: string): void {
    this.#meet('too-large', 413, url, `answered 413 at ${size} bytes: raise the proxy's limit (nginx: client_max_body_size), or lower the session's fragment size`);
  }

  /** The server is heard from. What is too large for a POST is so still, unless `isAll`. */
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
