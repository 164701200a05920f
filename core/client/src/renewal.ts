import { Backoff } from './backoff';
import type { Environment } from './environment';
import type { OpenTicket } from './ticket';
import type { Answer, TicketSource } from './ticket_source';

/**
 * In milliseconds: the maximum wait between two requests, the time limit for an answer, and the
 * time after which the back-off starts again.
 */
const CAP = 30_000;
const ANSWER = 15_000;
const CALM = 60_000;
/** Maximum wait in milliseconds that a server can ask for. */
const LONGEST_WAIT = 300_000;
/**
 * Maximum number of consecutive new tickets that fail, each within the milliseconds below. A
 * session that lasted longer may have been told to wait.
 */
const PATIENCE = 5;
const LASTING = 10_000;
/** Grows faster than for connections, because each request makes the server open a session. */
const GROWTH = 2;

/** Gets new tickets, at a limited rate. */
export class Renewal {
  readonly #source: TicketSource;
  readonly #now: () => number;
  readonly #environment: Environment;
  readonly #backoff = new Backoff(GROWTH);
  #fruitless = 0;
  #obtainedAt = -Infinity;
  /** Ends the current pause. */
  #resume: (() => void) | undefined;
  /** True if the pause may end early, because the server did not request it. */
  #isShortened = false;
  #asking: AbortController | undefined;
  #isStopped = false;

  constructor(source: TicketSource, now: () => number, environment: Environment) {
    this.#source = source;
    this.#now = now;
    this.#environment = environment;
  }

  get isPossible(): boolean {
    return this.#source.isThere;
  }

  /**
   * Requests a ticket after `delay` milliseconds or later. Returns it, or why there is none. Calls
   * `waiting` with the time of the next request and what prevents requests, if anything does.
   */
  async obtain(delay: number, waiting: (at: number, hindrance: string) => void): Promise<OpenTicket | string> {
    const lasted = this.#now() - this.#obtainedAt;
    this.#fruitless = lasted < LASTING ? this.#fruitless + 1 : 0;
    if (this.#fruitless >= PATIENCE) return 'every new session failed';
    if (lasted > CALM) this.#backoff.waits = 0;
    for (let answer: Answer = delay; ; ) {
      const { Date, Math: { random } } = this.#environment;
      const wait = Math.max(Math.min(answer || 0, LONGEST_WAIT), this.#backoff.next(random, CAP));
      if (wait) waiting(Math.round(Date.now() + wait), this.#source.hindrance);
      this.#isShortened = !answer;
      if (wait) await this.#pause(wait);
      answer = this.#isStopped ? 'closed by this page' : await this.#ask();
      this.#obtainedAt = this.#now();
      if (typeof answer !== 'number') return answer;
    }
  }

  /** Records that a ticket led to a session. */
  succeed(): void {
    this.#fruitless = -1; // Its own end adds one, although the ticket was of use.
  }

  /** Ends a pause that the server did not request, because the network may be back. */
  wake(): void {
    if (this.#isShortened) this.#resume?.();
  }

  stop(): void {
    this.#isStopped = true;
    this.#asking?.abort();
    this.#resume?.();
  }

  async #ask(): Promise<Answer> {
    const asking = (this.#asking = new AbortController());
    const timer = this.#environment.setTimeout(() => asking.abort(), ANSWER);
    const answer = await this.#source.ask(asking.signal);
    this.#environment.clearTimeout(timer);
    return answer;
  }

  #pause(wait: number): Promise<void> {
    return new Promise((over) => {
      const timer = this.#environment.setTimeout(over, wait);
      this.#resume = () => {
        this.#environment.clearTimeout(timer);
        over();
      };
    });
  }
}
