import type { Environment } from './environment';
import type { Obstacles } from './obstacle';
import { retryAfterOf } from './retry_after';
import { PROTOCOL } from './ticket';
import type { Bytes } from './wire';

const CONTENT_TYPE = `application/${PROTOCOL}`;
/** A server reads no more of one. */
const MOST = 2 ** 20;
/** This connection is over: a part of the protocol, not an obstacle. */
const GONE = 410;
const TOO_LARGE = 413;
const TOO_MANY = 429;
/** Milliseconds to wait after a refusal that names no time, doubled with each in a row. */
const WAIT = 1000;
const LONGEST_WAIT = 60_000;
/** No server is believed that it wants to be left alone for longer. */
const LONGEST_RETRY_AFTER = 3_600_000;

/** POSTs to one session, and what has been learnt of the way they take; it outlives the connections that are made of them. */
export class Posts {
  /** Bytes that a POST may have, unless it has one frame only. */
  most = MOST;
  /** Somebody else has answered since it was set to false. */
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

  /** The server's answer, or `undefined` if it is not the server who answers; throws if nobody does. So many frames are in the body. */
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

  /** How long to wait before the next POST; asked once. */
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

/** A redirect is not followed: a page that is reached so is no answer. */
export function post(environment: Environment, url: string, body: Bytes, options: RequestInit): Promise<Response> {
  const headers = { 'content-type': CONTENT_TYPE };
  return environment.fetch!(url, { method: 'POST', body, headers, cache: 'no-store', credentials: 'include', redirect: 'manual', ...options });
}

/** It carries frames. */
export function isServers({ status, headers }: Response): boolean {
  return status === 200 && headers.get('content-type') === CONTENT_TYPE;
}
