import type { Environment } from './environment';
import type { Obstacles } from './obstacle';
import { retryAfterOf } from './retry_after';
import { PROTOCOL } from './ticket';
import type { Bytes } from './wire';

const CONTENT_TYPE = `application/${PROTOCOL}`;
/** Maximum size in bytes that a server reads. */
const MOST = 2 ** 20;
/** The status for a connection that is over. It is part of the protocol and not an obstacle. */
const GONE = 410;
const TOO_LARGE = 413;
const TOO_MANY = 429;
/**
 * Wait in milliseconds after a refusal without `Retry-After`. It doubles with each consecutive
 * refusal.
 */
const WAIT = 1000;
const LONGEST_WAIT = 60_000;
/** Maximum wait in milliseconds that a server can ask for. */
const LONGEST_RETRY_AFTER = 3_600_000;

/**
 * Sends the POSTs of one session and remembers what they revealed about the network. It outlives
 * individual connections.
 */
export class Posts {
  /** Maximum size of a POST in bytes, except for a POST with a single frame. */
  most = MOST;
  /** True if something other than the server has answered since this was set to false. */
  isAnswered = false;
  readonly #environment: Environment;
  readonly #obstacles: Obstacles;
  #refusals = 0;
  #wait = 0;
  #tooLarge = Infinity;

  constructor(environment: Environment, obstacles: Obstacles) {
    this.#environment = environment;
    this.#obstacles = obstacles;
  }

  /**
   * Sends a POST whose body contains `frames` frames. Returns the server's answer, or `undefined`
   * if something else answers. Throws if there is no answer.
   */
  async send(url: string, body: Bytes, frames: number, options: RequestInit): Promise<Response | undefined> {
    const response = await post(this.#environment, url, body, options);
    if (isServers(response)) {
      if (body.length >= this.#tooLarge) {
        this.#tooLarge = Infinity;
        this.#obstacles.clear(true);
      }
      if (this.#tooLarge === Infinity) this.#refusals = 0;
      return response;
    }
    void response.body?.cancel().catch(() => {});
    if (response.status !== GONE) this.#refuse(response, url, body.length, frames);
    return;
  }

  /** Returns the wait before the next POST and resets it. */
  takeWait(): number {
    const wait = this.#wait;
    this.#wait = 0;
    return wait;
  }

  #refuse(response: Response, url: string, size: number, frames: number): void {
    const { status } = response;
    this.isAnswered = true;
    const isTooLarge = status === TOO_LARGE;
    if (isTooLarge && frames > 1) {
      this.most = size >> 1;
      return;
    }
    if (isTooLarge) {
      this.#tooLarge = size;
      this.#obstacles.meetTooLarge(size, url);
    } else this.#obstacles.meetAnswer(response, url);
    const named = retryAfterOf(response, this.#environment.Date.now());
    if (named > 0) this.#wait = Math.min(named, LONGEST_RETRY_AFTER);
    else if (isTooLarge || status === TOO_MANY) this.#wait = Math.min(WAIT * 2 ** this.#refusals++, LONGEST_WAIT);
  }
}

/** Sends a POST without following redirects, because none leads to an answer from the server. */
export function post(environment: Environment, url: string, body: Bytes, options: RequestInit): Promise<Response> {
  const headers = { 'content-type': CONTENT_TYPE };
  return environment.fetch!(url, { method: 'POST', body, headers, cache: 'no-store', credentials: 'include', redirect: 'manual', ...options });
}

/** Returns true if the response carries frames. */
export function isServers({ status, headers }: Response): boolean {
  return status === 200 && headers.get('content-type') === CONTENT_TYPE;
}
