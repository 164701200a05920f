import type { Environment, Frame } from './environment';
import { sharedIn, takePlace } from './shared';
import type { Bytes, Limits } from './wire';

/** What the server gives a page, as JSON. Unknown members are ignored. */
export type Ticket = OpenTicket | RefusedTicket | StaticTicket;

/** A page's right to one session. */
export interface OpenTicket {
  readonly protocol: string;
  readonly url: string;
  /** Id of the session, which is not secret. */
  readonly id: string;
  /** 32 bytes in base64url. Whoever has it can take the session over. */
  readonly secret: string;
  readonly limits: Limits;
  /** Label under which this tab keeps the ticket for a reload. */
  readonly restore?: string;
  /** Kind of connection that the server chose. Default: WebSocket. */
  readonly connection?: string;
}

/** In place of a ticket: an address that answers a POST with one, as `Options.from`. */
export interface From {
  readonly from: string;
}

/** A page without a server behind it. */
export interface StaticTicket {
  readonly protocol: string;
  readonly connection: 'none';
}

/** The server has no room for another session. */
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

/** An address by HTTP, resolved against `base`. A page may have been opened with a user and a password: no browser fetches an address that has them. */
export function resolve(address: string, base: string): URL {
  const url = new URL(new URL(address, base).href.replace(/^ws/, 'http'));
  url.username = url.password = '';
  return url;
}

/** What a ticket entitles to, its url resolved against `base`; throws if it is none. */
export function credentialsOf(ticket: OpenTicket, base: string): Credentials {
  try {
    const { protocol, limits } = ticket;
    const secret = Uint8Array.from(atob(ticket.secret.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
    const isTicket = protocol === PROTOCOL && secret.length === 32 && limits.fragment > 0;
    if (isTicket) return { ticket, url: resolve(ticket.url, base).href, secret };
  } catch {
    // Told below.
  }
  throw new TypeError(
    `connect() takes the ticket object that the server made for this page: ${PROTOCOL} (else reload), with a url that fits the page's (else pass the option url).`,
  );
}

/** The ticket a reload of this page may present: kept by the tab for this label, the session's number among those of the label, the address and the frame. */
export class StoredTicket {
  readonly #environment: Environment;
  readonly #place: string | undefined;
  /** Key of the last save. */
  #key: string | undefined;

  /** Without a label nothing is stored. */
  constructor(label: string | undefined, environment: Environment) {
    this.#environment = environment;
    this.#place = label === undefined ? label : takePlace(label, environment);
  }

  /** What an earlier document of this page used, if this one is its reload or was reached through the history. */
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

  /** Forgets what was saved, where it was saved: the address may have changed. */
  remove(): void {
    this.#access((storage) => this.#key && storage.removeItem(this.#key));
  }

  /** Leaves the place to the next session of this label. */
  free(): void {
    if (this.#place !== undefined) sharedIn(this.#environment).places.delete(this.#place);
  }

  /** Storage that is forbidden or full counts as absent. */
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

/** The frame's place among its siblings, and its parents' among theirs; empty at the top. */
function framePosition(frame: Frame): string {
  let position = '';
  for (; frame.parent !== frame; frame = frame.parent) {
    position += `.${Array.prototype.indexOf.call(frame.parent, frame)}`;
  }
  return position;
}
