import type { Environment, Markup, Queryable } from './environment';
import { retryAfterOf } from './retry_after';
import { type From, isRefused, type OpenTicket, type RefusedTicket, resolve, type Ticket } from './ticket';

const SELECTOR = '[data-stillhere]';
const SCRIPT = 'script';

/**
 * A ticket; or how many milliseconds to wait, which comes from the network and may be anything,
 * even NaN; or why there is none.
 */
export type Answer = OpenTicket | number | string;

/**
 * The source of new tickets: an address that the application has named, or the page, fetched again
 * (PROTOCOL.md, section 14).
 */
export class TicketSource {
  /**
   * What prevents requests, after two in a row failed although there is a network; otherwise empty.
   */
  hindrance = '';
  readonly #environment: Environment;
  readonly #from: string | null | undefined;
  readonly #page: string;
  readonly #own: Ticket | From;
  readonly #base: string;
  /**
   * Name of the elements whose tickets count. A script if there is a choice, because sanitizers let
   * `data-*` attributes pass.
   */
  #element: string | undefined;
  /**
   * The ticket's position in the page among those of its label, or among all if the server had no
   * room for it.
   */
  readonly #index: number;
  /** Number of failed requests in a row. */
  #failures = 0;

  /** If `from` is null, there are no new tickets. */
  constructor(own: Ticket | From, from: string | null | undefined, base: string, environment: Environment) {
    this.#environment = environment;
    this.#from = from;
    this.#page = environment.location.href;
    this.#own = own;
    this.#base = base;
    // Refused tickets look the same. While the page is parsed, the last one is that of the running
    // script.
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
    // A redirect may lead to a login page or to another origin.
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
      // Otherwise there is no network, or the answer took too long.
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

  /** Returns the tickets of the label, and the refused ones, which have no label. */
  #ticketsIn(page: Queryable): Ticket[] {
    return [...page.querySelectorAll(SELECTOR)]
      .filter(({ localName }) => localName === this.#element)
      .map(ticketOf)
      .filter((ticket) => ticket && (isRefused(ticket) || this.#fits(ticket as OpenTicket))) as Ticket[];
  }

  #fits({ url, restore }: OpenTicket): boolean {
    const { url: ownUrl = '', restore: label, refused } = { ...(this.#own as Partial<OpenTicket & RefusedTicket> | undefined) };
    // A refused ticket names no server. Whoever can write a script controls the page anyway.
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
