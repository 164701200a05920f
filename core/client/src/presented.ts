import type { Environment } from './environment';
import { becomeIncumbent, type Release } from './incumbent';
import { type Credentials, credentialsOf, type OpenTicket, StoredTicket } from './ticket';

/** The ticket that this document presents: its page's own, or that of an earlier document of the page (PROTOCOL.md, section 14). */
export class PresentedTicket {
  readonly #base: string;
  readonly #environment: Environment;
  readonly #own: Credentials;
  readonly #stored: StoredTicket;
  #presented: Credentials;
  #incumbency: Promise<Release | undefined> | undefined;

  /** Throws if the page's own ticket is none. */
  constructor(own: OpenTicket, base: string, environment: Environment) {
    this.#base = base;
    this.#environment = environment;
    this.#own = this.#presented = credentialsOf(own, base);
    this.#stored = new StoredTicket(own.restore, environment);
  }

  /** The page's own. */
  get own(): OpenTicket {
    return this.#own.ticket;
  }

  get credentials(): Credentials {
    return this.#presented;
  }

  /** Prefers what is stored to the page's own, if it fits and no living document of this browser uses it. */
  async choose(): Promise<void> {
    const { limits } = this.#own.ticket;
    try {
      const stored = credentialsOf(this.#stored.load()!, this.#base);
      if (JSON.stringify(stored.ticket.limits) === JSON.stringify(limits)) {
        const release = await becomeIncumbent(stored.ticket.id, true, this.#environment);
        if (release) {
          this.#presented = stored;
          this.#incumbency = Promise.resolve(release);
          return;
        }
      }
    } catch {
      // Nothing is stored, or no ticket.
    }
    this.hold();
  }

  /** The server will have none of it: true if there is the page's own to present instead. */
  fallBack(): boolean {
    if (this.#presented === this.#own) return false;
    this.leave();
    this.#presented = this.#own;
    this.hold();
    return true;
  }

  /** Tells the other documents of this browser that this one uses the session. Another may do so too: then the server decides. */
  hold(): void {
    const { ticket } = this.#presented;
    this.#stored.save(ticket);
    this.#incumbency = becomeIncumbent(ticket.id, false, this.#environment);
  }

  /** Leaves the session to the next document of the page, whose address may have changed by now. */
  leave(): void {
    this.#stored.save(this.#presented.ticket);
    void this.#incumbency?.then((release) => release?.());
  }

  /** The session is of no more use. */
  discard(): void {
    this.leave();
    this.#stored.remove();
    this.#stored.free();
  }
}
