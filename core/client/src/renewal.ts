import { Backoff } from './backoff';
import type { Environment } from './environment';
import type { Status } from './status';
import type { OpenTicket } from './ticket';
import type { Answer, TicketSource } from './ticket_source';

/** Milliseconds: the longest wait between two requests, what an answer may take, and after how long all begins anew. */
const CAP = 30_000;
const ANSWER = 15_000;
const CALM = 60_000;
/** No server is believed that it wants to be left alone for longer. */
const LONGEST_WAIT = 300_000;
/** New tickets in a row that may come to nothing, each in less than so many milliseconds: one that lasted longer was perhaps told to wait. */
const PATIENCE = 5;
const LASTING = 10_000;
/** Steeper than for connections: each request makes the server open a session. */
const GROWTH = 2;

/** Why a session is over for which there is a new one by default; the last five only if this document never had it: then another one had, or none. */
const RENEWED = ['Unknown', 'NeverConnected', 'Draining', 'Duplicate', 'Full', 'Finished', 'Expired', 'Disconnected', 'MemoryPressure'];

/** Whether a page whose session is over like this gets a new one, unless it decides otherwise. */
export function isRenewed({ reason, outcome }: Status): boolean {
  return RENEWED.slice(0, outcome ? 4 : 9).includes(reason);
}

/** Gets new tickets, not too often. */
export class Renewal {
  readonly #source: TicketSource;
  readonly #now: () => number;
  readonly #environment: Environment;
  readonly #backoff = new Backoff(GROWTH);
  #fruitless = 0;
  #obtainedAt = -Infinity;
  /** Ends the pause under way. */
  #resume: (() => void) | undefined;
  /** Nobody has asked for the pause, so it may end early. */
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

  /** A ticket, in so many milliseconds at the earliest, or why there is none. `waiting` is told when the next request is due, and what hinders them if they fail. */
  async obtain(delay: number, waiting: (at: number, hindrance: string) => void): Promise<OpenTicket | string> {
    const lasted = this.#now() - this.#obtainedAt;
    this.#fruitless = lasted < LASTING ? this.#fruitless + 1 : 0;
    if (this.#fruitless >= PATIENCE) return 'each new session came to nothing';
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

  /** A ticket was good for a session. */
  succeed(): void {
    this.#fruitless = -1; // It is the next to end, and was not fruitless.
  }

  /** The network may be there again: a pause that nobody has asked for is over. */
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
