import type { Environment } from './environment';

export const WEB_SOCKET = 'websocket';
export const STREAMED = 'streamed';
export const POLLED = 'polled';

/**
 * How long in milliseconds an attempt may take until the server is heard from. It doubles whenever
 * every kind was silent for that long.
 */
const PATIENCE = 4000;
/** Longer times are left to the deadlines of the machine. */
const LONGEST_PATIENCE = 8000;
/** A connection that is lost within this time had a short life, */
const SHORT_LIFE = 10_000;
/** and so had one whose first bytes arrive only at its end: something held them back. */
export const HELD_BACK = 100;
/**
 * After this many short lives in a row, cut off after about the same time or number of bytes,
 * another kind gets its turn.
 */
const TOLERANCE = 6;
/** Tolerance, as a share of the greater value. */
const ALIKE = 0.1;
/**
 * How long in milliseconds until a better kind is tried beside the one in use: after such a row,
 * doubled with each further short life,
 */
const TRY_UNSTABLE = 30_000;
/** and after a trial that failed. */
const TRY_AGAIN = 300_000;
/** Key under which the tab remembers which kind worked. */
const KEY = 'stillhere:route';

/** What is known about a kind of connection. */
interface Experience {
  readonly kind: string;
  /** An attempt with this kind was answered once. */
  isProven: boolean;
  /** The last attempt was not answered. */
  isFailing: boolean;
  /** Number of similar short lives in a row. */
  shortLives: number;
  tolerance: number;
  lastLife: number;
  lastBytes: number;
  /** When this kind may be tried beside a worse one. */
  tryAt: number;
}

/**
 * Chooses the kind of connection for the next attempt: the best one over which the server is heard.
 * Until one is known, it tries each in turn.
 */
export class Route {
  readonly #kinds: readonly Experience[];
  readonly #environment: Environment;
  readonly #isChosen: boolean;
  #at = 0;
  /** Number of unanswered attempts in a row with the kind in use. */
  #failures = 0;
  /**
   * Number of attempts that were silent until their deadline, since the server was last heard from.
   */
  #silences = 0;
  /**
   * The kind that worked before a trial led to the one in use. The new kind must last before it is
   * preferred.
   */
  #origin = -1;
  /** Until when the server, or a proxy before it, refuses POSTs. */
  #postsAt = 0;

  constructor(preferred: string | undefined, environment: Environment) {
    const kinds = new Set([preferred ?? WEB_SOCKET, WEB_SOCKET, ...(environment.fetch ? [STREAMED, POLLED] : [])]);
    this.#kinds = [...kinds].map((kind) => ({ kind, isProven: false, isFailing: false, shortLives: 0, tolerance: TOLERANCE, lastLife: 0, lastBytes: 0, tryAt: 0 }));
    this.#environment = environment;
    this.#isChosen = !isOurs(this.kind);
    if (!this.#isChosen) this.#at = Math.max(0, this.#kinds.findIndex(({ kind }) => kind === this.#remembered()));
  }

  get kind(): string {
    return this.#kinds[this.#at]!.kind;
  }

  /** Returns true if no later kind might do better. */
  get isLast(): boolean {
    return this.#at === this.#kinds.length - 1;
  }

  /**
   * Returns how long the attempt may wait for an answer. A kind of the page's own has the machine's
   * deadlines.
   */
  get patience(): number {
    const patience = PATIENCE * 2 ** Math.floor(this.#silences / this.#kinds.length);
    return isOurs(this.kind) && patience <= LONGEST_PATIENCE ? patience : Infinity;
  }

  /** Notes that the attempt ended without an answer. `isSilent`: it had all its time. */
  fail(isSilent: boolean, now: number): void {
    const current = this.#kinds[this.#at]!;
    current.isFailing = true;
    this.#silences += Number(isSilent);
    // A kind that worked may work again, and a script that makes connections may load late.
    if (++this.#failures >= (current.isProven || !isOurs(current.kind) ? 2 : 1) || this.#isHeld(now)) this.#turn(now);
  }

  /** Notes that the attempt was answered. */
  succeed(now: number): void {
    const current = this.#kinds[this.#at]!;
    this.#failures = this.#silences = this.#postsAt = 0;
    current.isProven = true;
    current.isFailing = false;
    this.#remember();
    // Perhaps the server could not be reached, and the better kinds work.
    for (const better of this.#better) {
      const excess = better.shortLives - TOLERANCE;
      better.tryAt = excess < 0 ? now : now + Math.min(TRY_UNSTABLE * 2 ** excess, TRY_AGAIN);
    }
  }

  /**
   * Notes the loss of an answered connection after `life` milliseconds and `bytes` bytes from the
   * server.
   */
  lose(life: number, bytes: number, now: number): void {
    const current = this.#kinds[this.#at]!;
    if (!isOurs(current.kind)) return;
    if (current.kind === STREAMED && life < HELD_BACK) {
      current.isFailing = true;
      return this.#turn(now);
    }
    // A proxy cuts every connection at the same point. Chance, or a person who unplugs a cable,
    // does not.
    const isAlike = isNear(life, current.lastLife) || isNear(bytes, current.lastBytes);
    Object.assign(current, { lastLife: life, lastBytes: bytes });
    if (life < SHORT_LIFE) current.shortLives = isAlike ? current.shortLives + 1 : 1;
    else {
      current.shortLives = 0;
      current.tolerance = TOLERANCE;
      this.#origin = -1;
    }
    if (current.shortLives >= current.tolerance || this.#isHeld(now)) this.#turn(now);
  }

  /** Notes that no POSTs may be sent for `wait` milliseconds. */
  holdPosts(wait: number, now: number): void {
    this.#postsAt = Math.max(this.#postsAt, now + wait);
  }

  /** Returns how long the next attempt must wait because no other kind is more promising. */
  wait(now: number): number {
    const isHopeless = this.#kinds.every(({ kind, isFailing }) => isFailing || isPosted(kind));
    return isHopeless ? Math.max(0, this.#postsAt - now) : 0;
  }

  /** Returns when a better kind is to be tried beside the one in use. */
  get nextTrial(): number {
    return Math.min(...this.#better.map(({ tryAt }) => tryAt));
  }

  /** Returns the best kind that is due for a trial. It is then not due for a while. */
  takeTrial(now: number): string | undefined {
    const due = this.#better.find(({ tryAt }) => tryAt <= now);
    if (due) due.tryAt = now + TRY_AGAIN;
    return due?.kind;
  }

  /** Notes that the server was heard over this kind in a trial. */
  move(kind: string): void {
    this.#origin = this.#at;
    this.#at = this.#kinds.findIndex((other) => other.kind === kind);
    this.#failures = 0;
  }

  /**
   * Notes that the network has changed, or that the user or the application asks for an attempt
   * (`isAsked`): what failed before may work now.
   */
  reset(now: number, isAsked: boolean): void {
    this.#silences = this.#failures = 0;
    if (isAsked) this.#postsAt = 0;
    if (this.#isChosen) this.#at = 0;
    for (const kind of this.#kinds) Object.assign(kind, { isFailing: false, shortLives: 0, tolerance: TOLERANCE, tryAt: now });
  }

  /** Returns the kinds that are better than the one in use and can be tried beside it. */
  get #better(): Experience[] {
    return this.#kinds.slice(0, this.#at).filter(({ kind }) => isOurs(kind));
  }

  #isHeld(now: number): boolean {
    return now < this.#postsAt && isPosted(this.kind);
  }

  #turn(now: number): void {
    this.#failures = 0;
    const { length } = this.#kinds;
    this.#at = this.#origin < 0 ? (this.#at + 1) % length : this.#origin;
    this.#origin = -1;
    while (this.#isHeld(now)) this.#at = (this.#at + 1) % length;
    const next = this.#kinds[this.#at]!;
    // If nothing else works, a connection that does not last is better than none.
    const isAlone = this.#kinds.every(({ isFailing }, at) => isFailing || at === this.#at);
    if (next.shortLives >= next.tolerance) next.tolerance = next.shortLives + (isAlone ? next.shortLives : 1);
  }

  #remembered(): string | null | undefined {
    try {
      return this.#environment.sessionStorage.getItem(KEY);
    } catch {
      return;
    }
  }

  #remember(): void {
    try {
      const { sessionStorage } = this.#environment;
      if (isPosted(this.kind)) sessionStorage.setItem(KEY, this.kind);
      else sessionStorage.removeItem(KEY);
    } catch {
      // Without access to the storage nothing is remembered.
    }
  }
}

/** Returns true if this kind uses POSTs. */
export function isPosted(kind: string): boolean {
  return kind === STREAMED || kind === POLLED;
}

function isOurs(kind: string): boolean {
  return kind === WEB_SOCKET || isPosted(kind);
}

function isNear(one: number, other: number): boolean {
  return Math.abs(one - other) <= ALIKE * Math.max(one, other);
}
