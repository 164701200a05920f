import type { Environment, Markup, Queryable } from './environment';
import { retryAfterOf } from './retry_after';
import { type From, isRefused, type OpenTicket, type RefusedTicket, resolve, type Ticket } from './ticket';

const SELECTOR = '[data-stillhere]';
const SCRIPT = 'script';

/** A ticket; for how many milliseconds somebody asks to wait until there may be one, who may ask for anything, or NaN; or why there is none. */
export type Answer = OpenTicket | number | string;

/** Where new tickets come from: an address that the application has named, or the page, fetched once more (PROTOCOL.md, section 14). */
export class TicketSource {
  /** What hinders requests, once two in a row have failed although there is a network; else empty. */
  hindrance = '';
  readonly #environment: Environment;
  readonly #from: string | null | undefined;
  readonly #page: string;
  readonly #own: Ticket | From;
  readonly #base: string;
  /** The name of the elements whose tickets count, as nobody else writes them: sanitizers let `data-*` pass. A script if there is the choice. */
  #element: string | undefined;
  /** The ticket's place in the page: its number among those of its label, or among all if there was no room for it. */
  readonly #index: number;
  /** Requests in a row that failed. */
  #failures = 0;

  /** `from` null: there are none. */
  constructor(own: Ticket | From, from: string | null | undefined, base: string, environment: Environment) {
    this.#environment = environment;
    this.#from = from;
    this.#page = environment.location.href;
    this.#own = own;
    this.#base = base;
    // Refusals look the same: while the page is being read, the last is the one whose script runs.
    const nameOf = (ticket: Ticket | From): string => (ticket as Partial<OpenTicket> | undefined)?.id ?? JSON.stringify(ticket);
    for (const element of environment.document.querySelectorAll(SELECTOR)) {
      if (this.#element !== SCRIPT && nameOf(ticketOf(element)!) === nameOf(own)) this.#element = element.localName;
    }
    this.#index = this.#ticketsIn(environment.document).map(nameOf).lastIndexOf(nameOf(own));
  }

  get isThere(): boolean {
    return this.#from === undefined ? this.#index >= 0 : this.#from !== null;
  }

  async ask(signal: AbortSignal): Promise<Answer> {
    const { fetch, document, navigator, console, Date } = this.#environment;
    const address = resolve(this.#from ?? this.#page, document.baseURI).href;
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
    } catch (error) {
      // Else there is no network, or the answer took too long.
      if (navigator.onLine && !signal.aborted && ++this.#failures > 1) {
        this.hindrance = `cannot fetch ${address}: the network, or connect-src of the page's Content-Security-Policy`;
        if (this.#failures === 2) console.error(`stillhere: ${this.hindrance}.`, error);
      }
      return 0;
    }
    this.#failures = 0;
    this.hindrance = '';
    const { ok, status } = response;
    if (status === 408 || status === 429 || status >= 500) return retryAfterOf(response, Date.now());
    let ticket: Ticket | undefined;
    let why = ok ? 'it has none that fits' : status ? `status ${status}` : 'it redirects';
    try {
      if (ok) ticket = this.#find(body);
    } catch (error) {
      why = `${error}`; // Trusted Types do not let a page be read.
    }
    if (!ticket) return `no new ticket from ${address}: ${why}; perhaps a login is needed`;
    return isRefused(ticket) ? Number(ticket.refused.retryAfter) : (ticket as OpenTicket);
  }

  #find(body: string): Ticket | undefined {
    if (this.#from !== undefined) return parse(body);
    return this.#ticketsIn(new this.#environment.DOMParser!().parseFromString(body, 'text/html'))[this.#index];
  }

  /** Those of the label, and the ones of no room, which have none. */
  #ticketsIn(page: Queryable): Ticket[] {
    return [...page.querySelectorAll(SELECTOR)]
      .filter(({ localName }) => localName === this.#element)
      .map(ticketOf)
      .filter((ticket) => ticket && (isRefused(ticket) || this.#fits(ticket as OpenTicket))) as Ticket[];
  }

  #fits({ url, restore }: OpenTicket): boolean {
    const { url: ownUrl = '', restore: label, refused } = { ...(this.#own as Partial<OpenTicket & RefusedTicket> | undefined) };
    // A refused ticket names no server. Who can write a script has the page anyway.
    if (refused && this.#element === SCRIPT) return true;
    try {
      return (!!refused || restore === label) && resolve(url, this.#base).origin === resolve(ownUrl, this.#base).origin;
    } catch {
      return false;
    }
  }
}

function ticketOf(element: Markup): Ticket | undefined {
  return parse(element.getAttribute('data-stillhere')!);
}

function parse(json: string): Ticket | undefined {
  try {
    const ticket = JSON.parse(json) as Ticket;
    return Object(ticket) === ticket ? ticket : undefined;
  } catch {
    return;
  }
}
