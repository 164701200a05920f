import type { Environment, Queryable } from './environment';
import { type From, isRefused, type OpenTicket, type Ticket } from './ticket';

/** The most milliseconds that an answer may ask to wait. */
const LONGEST_WAIT = 300_000;

/** A ticket; how many milliseconds to wait at least until there may be one; or why there is none. */
export type Answer = OpenTicket | number | string;

/** Where new tickets come from: an address that the application has named, or the page, fetched once more (PROTOCOL.md, section 14). */
export class TicketSource {
  readonly #environment: Environment;
  readonly #from: string | null | undefined;
  readonly #page: string;
  readonly #own: Ticket | From;
  /** The ticket's place in the page: its number among those of its label, or among all if there was no room for it. */
  readonly #index: number;

  /** `from` null: there are none. */
  constructor(own: Ticket | From, from: string | null | undefined, environment: Environment) {
    this.#environment = environment;
    this.#from = from;
    this.#page = environment.location.href;
    this.#own = own;
    // Refusals look the same: while the page is being read, the last is the one whose script runs.
    const nameOf = (ticket: Ticket | From): string => (ticket as Partial<OpenTicket> | undefined)?.id ?? JSON.stringify(ticket);
    this.#index = this.#ticketsIn(environment.document).map(nameOf).lastIndexOf(nameOf(own));
  }

  get isThere(): boolean {
    return this.#from === undefined ? this.#index >= 0 : this.#from !== null;
  }

  async ask(signal: AbortSignal): Promise<Answer> {
    const { fetch, document } = this.#environment;
    const address = this.#from === undefined ? this.#page : new URL(this.#from!, document.baseURI).href;
    // A redirect may lead to a login, and to other origins.
    const options: RequestInit = { redirect: 'manual', signal };
    let response: Response;
    let body: string;
    try {
      response =
        this.#from === undefined
          ? await fetch!(address, { ...options, cache: 'reload', credentials: 'same-origin', headers: { accept: 'text/html' } })
          : await fetch!(address, { ...options, method: 'POST', cache: 'no-store', credentials: 'include', headers: { accept: 'application/json' } });
      body = await response.text();
    } catch {
      return 0; // No network, or no server.
    }
    const { ok, status, headers } = response;
    if (status === 408 || status === 429 || status >= 500) return waitOf(Number(headers.get('retry-after')) * 1000);
    let ticket: Ticket | undefined;
    let why = ok ? 'it has none' : status ? `status ${status}` : 'it redirects';
    try {
      if (ok) ticket = this.#find(body);
    } catch (error) {
      why = `${error}`; // Trusted Types do not let a page be read.
    }
    if (!ticket) return `no new ticket from ${address}: ${why}; perhaps a login is needed`;
    return isRefused(ticket) ? waitOf(ticket.refused.retryAfter) : (ticket as OpenTicket);
  }

  #find(body: string): Ticket | undefined {
    if (this.#from !== undefined) return parse(body);
    return this.#ticketsIn(new this.#environment.DOMParser!().parseFromString(body, 'text/html'))[this.#index];
  }

  /** Those of the label, and the ones of no room, which have none. */
  #ticketsIn(page: Queryable): Ticket[] {
    return [...page.querySelectorAll('[data-stillhere]')]
      .map((element) => parse(element.getAttribute('data-stillhere')!))
      .filter((ticket) => !!ticket && (isRefused(this.#own) || isRefused(ticket) || (ticket as OpenTicket).restore === (this.#own as OpenTicket | undefined)?.restore)) as Ticket[];
  }
}

function waitOf(milliseconds: number): number {
  return Math.min(milliseconds || 0, LONGEST_WAIT);
}

function parse(json: string): Ticket | undefined {
  try {
    return JSON.parse(json) as Ticket;
  } catch {
    return;
  }
}
