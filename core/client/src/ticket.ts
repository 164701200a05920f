import type { Environment, Frame } from './environment';
import { sharedIn, takePlace } from './shared';
import type { Bytes, Limits } from './wire';

/** The JSON object that the server gives a page. Unknown members are ignored. */
export type Ticket = OpenTicket | RefusedTicket | StaticTicket;

/** A page's right to one session. */
export interface OpenTicket {
  readonly protocol: string;
  readonly url: string;
  /** Id of the session, which is not secret. */
  readonly id: string;
  /** 32 bytes in base64url. Anyone who has it can take over the session. */
  readonly secret: string;
  readonly limits: Limits;
  /** Label under which this tab keeps the ticket for a reload. */
  readonly restore?: string;
  /** Kind of connection, chosen by the server. Default: WebSocket. */
  readonly connection?: string;
}

/** An address that answers a POST with a ticket, like `Options.from`. Used instead of a ticket. */
export interface From {
  readonly from: string;
}

/** Ticket of a static page, which has no server. */
export interface StaticTicket {
  readonly protocol: string;
  readonly connection: 'none';
}

/** Answer of a server that has no room for another session. */
export interface RefusedTicket {
  readonly protocol: string;
  readonly refused: { readonly code: number; /** Milliseconds. */ readonly retryAfter: number; readonly text: string };
}

export const PROTOCOL = 'stillhere.v1';

export function isRefused(ticket: Ticket | From): ticket is RefusedTicket {
  return !!(ticket as Partial<RefusedTicket> | undefined)?.refused;
}

export function isStatic(ticket: Ticket | From): ticket is StaticTicket {
  return (ticket as Partial<StaticTicket> | undefined)?.connection === 'none';
}

/** A ticket that can be presented. */
export interface Credentials {
  readonly ticket: OpenTicket;
  readonly url: string;
  readonly secret: Bytes;
}

/**
 * Resolves an address against `base`, with the scheme `http:` or `https:`. Removes a user name and
 * password, which the page's address may contain and `fetch` rejects.
 */
export function resolve(address: string, base: string): URL {
  const url = new URL(new URL(address, base).href.replace(/^ws/, 'http'));
  url.username = url.password = '';
  return url;
}

/**
 * Returns the credentials in a ticket, with its url resolved against `base`. Throws if it is not a
 * ticket.
 */
export function credentialsOf(ticket: OpenTicket, base: string): Credentials {
  try {
    const { protocol, limits } = ticket;
    const secret = Uint8Array.from(atob(ticket.secret.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
    const isTicket = protocol === PROTOCOL && secret.length === 32 && limits.fragment > 0;
    if (isTicket) return { ticket, url: resolve(ticket.url, base).href, secret };
  } catch {
    // Reported below.
  }
  throw new TypeError(
    `connect() takes the ticket object that the server made. Reload the page if its protocol is not ${PROTOCOL}; pass the option url if its url does not fit.`,
  );
}

/**
 * The ticket that a reload of this page may present. The tab stores it under the label, the
 * session's number within the label, the address and the frame.
 */
export class StoredTicket {
  readonly #environment: Environment;
  readonly #place: string | undefined;
  /** Key of the last save. */
  #key: string | undefined;

  /** Without a label, nothing is stored. */
  constructor(label: string | undefined, environment: Environment) {
    this.#environment = environment;
    this.#place = label === undefined ? label : takePlace(label, environment);
  }

  /**
   * Returns the ticket of an earlier document of this page, if this one is a reload or was reached
   * through the history.
   */
  load(): OpenTicket | undefined {
    const [navigation] = this.#environment.performance.getEntriesByType('navigation') as readonly { readonly type?: string }[];
    if (!['reload', 'back_forward'].includes(navigation?.type ?? '')) return;
    return this.#access((storage, key) => (JSON.parse(storage.getItem(key) ?? 'null') as OpenTicket | null) ?? undefined);
  }

  save(ticket: OpenTicket): void {
    this.#access((storage, key) => {
      if (this.#key !== key) this.remove();
      storage.setItem((this.#key = key), JSON.stringify(ticket));
    });
  }

  /** Removes the saved ticket under the key of its save, because the address may have changed. */
  remove(): void {
    this.#access((storage) => this.#key && storage.removeItem(this.#key));
  }

  /** Frees the place for the next session of this label. */
  free(): void {
    if (this.#place !== undefined) sharedIn(this.#environment).places.delete(this.#place);
  }

  /** Calls `use` with the storage and the key. Forbidden or full storage counts as absent. */
  #access<T>(use: (storage: Environment['sessionStorage'], key: string) => T): T | undefined {
    if (this.#place === undefined) return;
    try {
      const { sessionStorage, location, self } = this.#environment;
      return use(sessionStorage, `stillhere:${this.#place}:${location.pathname}${location.search}:${framePosition(self)}`);
    } catch {
      return;
    }
  }
}

/**
 * Returns the index of the frame and of each ancestor among their siblings; empty for the top
 * frame.
 */
function framePosition(frame: Frame): string {
  let position = '';
  for (; frame.parent !== frame; frame = frame.parent) {
    position += `.${Array.prototype.indexOf.call(frame.parent, frame)}`;
  }
  return position;
}
