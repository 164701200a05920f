import type { Environment } from './environment';

export const WEB_SOCKET = 'websocket';
export const FALLBACK = 'http';

/** Attempts in a row that the server is not heard from, until the next kind gets its turn. */
const PATIENCE = 2;
/** Where the tab remembers that WebSockets do not get through. */
const KEY = 'stillhere:route';

/** Which kind of connection the next attempt takes. */
export class Route {
  readonly #kinds: readonly string[];
  readonly #environment: Environment;
  #at = 0;
  #failures = 0;

  constructor(preferred: string | undefined, environment: Environment) {
    this.#kinds = [...new Set([preferred ?? WEB_SOCKET, WEB_SOCKET, ...(environment.fetch ? [FALLBACK] : [])])];
    this.#environment = environment;
    if (!preferred) this.#at = Math.max(0, this.#kinds.indexOf(this.#remembered() ?? ''));
  }

  get kind(): string {
    return this.#kinds[this.#at]!;
  }

  /** The attempt is over and the server was not heard from. */
  fail(): void {
    if (++this.#failures < PATIENCE) return;
    this.#failures = 0;
    this.#at = (this.#at + 1) % this.#kinds.length;
  }

  /** The server was heard from. */
  succeed(): void {
    this.#failures = 0;
    this.#remember();
  }

  /** Begins anew with the first kind. */
  reset(): void {
    this.#at = this.#failures = 0;
  }

  #remembered(): string | null | undefined {
    try {
      return this.#environment.sessionStorage.getItem(KEY);
    } catch {
      return;
    }
  }

  #remember(): void {
    try {
      const { sessionStorage } = this.#environment;
      if (this.kind === FALLBACK) sessionStorage.setItem(KEY, FALLBACK);
      else sessionStorage.removeItem(KEY);
    } catch {
      // Storage that is forbidden remembers nothing.
    }
  }
}
