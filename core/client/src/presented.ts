import type { Environment } from './environment';
import { becomeIncumbent } from './incumbent';
import type { Release } from './lock';
import { type Credentials, credentialsOf, type OpenTicket, StoredTicket } from './ticket';

/**
 * Chooses the ticket that this document presents: that of its page, or that of an earlier document
 * of the page (PROTOCOL.md, section 14).
 */
export class PresentedTicket {
  readonly #base: string;
  readonly #environment: Environment;
  #own: Credentials | undefined;
  #stored: StoredTicket | undefined;
  /** Undefined before there is a ticket, and after the session has become useless. */
  #presented: Credentials | undefined;
  #incumbency: Promise<Release | undefined> | undefined;

  constructor(base: string, environment: Environment) {
    this.#base = base;
    this.#environment = environment;
  }

  get chosen(): Credentials | undefined {
    return this.#presented;
  }

  /** Sets the page's own ticket, or a newer one that replaces it. Throws if it is not a ticket. */
  take(own: OpenTicket): void {
    const label = SLIM || this.#own?.ticket.restore;
    this.#own = this.#presented = credentialsOf(own, this.#base);
    if (SLIM || (this.#stored && label === own.restore)) return;
    this.free();
    this.#stored = new StoredTicket(own.restore, this.#environment);
  }

  /**
   * Prefers the stored ticket to the page's own if it fits and no other open document of this
   * browser uses it.
   */
  async choose(): Promise<void> {
    const { limits } = this.#own!.ticket;
    try {
      const stored = credentialsOf(this.#stored!.load()!, this.#base);
      if (JSON.stringify(stored.ticket.limits) === JSON.stringify(limits)) {
        const release = await becomeIncumbent(stored.ticket.id, true, this.#environment);
        if (release) {
          this.#presented = stored;
          this.#incumbency = Promise.resolve(release);
          return;
        }
      }
    } catch {
      // The stored value is not a ticket.
    }
    this.hold();
  }

  /**
   * Handles the refusal of a ticket. Returns true if the page's own ticket can be presented
   * instead.
   */
  fallBack(): boolean {
    if (this.#presented === this.#own) return false;
    this.leave();
    this.#presented = this.#own;
    this.hold();
    return true;
  }

  /**
   * Keeps a ticket that a reload may present, and tells the other documents of this browser that
   * this one uses the session. If another one does too, the server decides.
   */
  hold(): void {
    const { ticket } = this.#presented ?? {};
    if (ticket?.restore === undefined) return;
    this.#stored!.save(ticket);
    this.#incumbency = becomeIncumbent(ticket.id, false, this.#environment);
  }

  /** Hands the session to the next document of the page, whose address may have changed. */
  leave(): void {
    if (!this.#presented) return;
    this.#stored!.save(this.#presented.ticket);
    void this.#incumbency?.then((release) => release?.());
  }

  /** Forgets a session that has become useless. */
  discard(): void {
    if (!SLIM) {
      this.leave();
      this.#stored?.remove();
    }
    this.#presented = undefined;
  }

  /** Makes sure that no other session takes the place of this one. */
  free(): void {
    this.#stored?.free();
  }
}
