import type { Environment, Queryable } from './environment';
import { isRefused, type OpenTicket, type Ticket } from './ticket';

/** The most milliseconds that an answer may ask to wait. */
const LONGEST_WAIT = 300_000;

/** A ticket; how many milliseconds to wait at least until there may be one; or why there is none. */
export type Answer = OpenTicket | number | string;

/** Where new tickets come from: an address that the application has named, or the page, fetched once more (PROTOCOL.md, section 14). */
export class TicketSource {
  readonly #environment: Environment;
  readonly #from: string | null | undefined;
  readonly #page: string;
  /** The ticket's place in the page: its number among those of its label. */
  readonly #label: string | undefined;
  readonly #index: number;

  /** `from` null: there are none. */
  constructor(own: OpenTicket | undefined, from: string | null | undefined, environment: Environment) {
    this.#environment = environment;
    this.#from = from;
    this.#page = environment.location.href;
    this.#label = own?.restore;
    this.#index = own ? this.#ticketsIn(environment.document).findIndex((ticket) => (ticket as OpenTicket).id === own.id) : -1;
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
    const ticket = ok && this.#find(body);
    if (!ticket) return `no new ticket from ${address}: ${ok ? 'it has none' : status ? `status ${status}` : 'it redirects'}; perhaps a login is needed`;
    return isRefused(ticket) ? waitOf(ticket.refused.retryAfter) : (ticket as OpenTicket);
  }

  #find(body: string): Ticket | undefined {
    if (this.#from !== undefined) return parse(body);
    try {
      return this.#ticketsIn(new this.#environment.DOMParser!().parseFromString(body, 'text/html'))[this.#index];
    } catch {
      return; // Trusted Types do not let a page be read.
    }
  }

  /** Those of the label, and the ones of no room, which have none. */
  #ticketsIn(page: Queryable): Ticket[] {
    return [...page.querySelectorAll('[data-stillhere]')]
      .map((element) => parse(element.getAttribute('data-stillhere')!))
      .filter((ticket) => !!ticket && (isRefused(ticket) || (ticket as OpenTicket).restore === this.#label)) as Ticket[];
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
