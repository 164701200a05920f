import type { Environment } from './environment';
import { WEB_SOCKET } from './kinds';

export const STREAMED = 'streamed';
export const POLLED = 'polled';

/**
 * How long in milliseconds an attempt may take until the server answers. It doubles whenever
 * every kind was silent for that long.
 */
const PATIENCE = 4000;
/** Maximum of that time in milliseconds. The deadlines of the machine cover longer times. */
const LONGEST_PATIENCE = 8000;
/** A connection lost within this many milliseconds had a short life. */
const SHORT_LIFE = 10_000;
/**
 * A connection whose first bytes arrived within this many milliseconds of its end also had a short
 * life: something held them back.
 */
export const HELD_BACK = 100;
/**
 * Number of consecutive short lives after which the route tries another kind. They count if they
 * ended after about the same time or number of bytes.
 */
const TOLERANCE = 6;
/** Relative difference up to which two values count as the same, as a share of the greater one. */
const ALIKE = 0.1;
/**
 * Wait in milliseconds until a better kind is tried beside the one in use, after that many short
 * lives. It doubles with each further one.
 */
const TRY_UNSTABLE = 30_000;
/** The same wait after a failed trial. */
const TRY_AGAIN = 300_000;
/** Storage key under which the tab keeps the kind that worked. */
const KEY = 'stillhere:route';

/** Record of how a kind of connection has worked. */
interface Experience {
  readonly kind: string;
  /** True if an attempt with this kind was ever answered. */
  isProven: boolean;
  /** True if the last attempt was not answered. */
  isFailing: boolean;
  /** Number of consecutive similar short lives. */
  shortLives: number;
  tolerance: number;
  lastLife: number;
  lastBytes: number;
  /** When this kind may be tried beside a worse one. */
  tryAt: number;
}

/**
 * Chooses the kind of connection for the next attempt: the best one over which the server answers.
 * Until one is known, it tries each in turn.
 */
export class Route {
  readonly #kinds: readonly Experience[];
  readonly #environment: Environment;
  readonly #isChosen: boolean;
  #at = 0;
  /** Number of consecutive unanswered attempts with the kind in use. */
  #failures = 0;
  /**
   * Number of attempts that were silent until their deadline, since the server last answered.
   */
  #silences = 0;
  /**
   * The kind in use before a successful trial. The new kind must prove stable before it is
   * preferred.
   */
  #origin = -1;
  /** Time until which the server, or a proxy in front of it, refuses POSTs. */
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
   * Returns how long the attempt may wait for an answer. For a registered kind, only the machine's
   * deadlines apply.
   */
  get patience(): number {
    const patience = PATIENCE * 2 ** Math.floor(this.#silences / this.#kinds.length);
    return isOurs(this.kind) && patience <= LONGEST_PATIENCE ? patience : Infinity;
  }

  /** Records that the attempt ended without an answer; `isSilent` if it reached its deadline. */
  fail(isSilent: boolean, now: number): void {
    const current = this.#kinds[this.#at]!;
    current.isFailing = true;
    this.#silences += Number(isSilent);
    // A kind that worked may work again, and the script that registers a kind may load late.
    if (++this.#failures >= (current.isProven || !isOurs(current.kind) ? 2 : 1) || this.#isHeld(now)) this.#turn(now);
  }

  /** Records that the attempt was answered. */
  succeed(now: number): void {
    const current = this.#kinds[this.#at]!;
    this.#failures = this.#silences = this.#postsAt = 0;
    current.isProven = true;
    current.isFailing = false;
    this.#remember();
    // Perhaps the server was down, and the better kinds work now.
    for (const better of this.#better) {
      const excess = better.shortLives - TOLERANCE;
      better.tryAt = excess < 0 ? now : now + Math.min(TRY_UNSTABLE * 2 ** excess, TRY_AGAIN);
    }
  }

  /**
   * Records the loss of an answered connection after `life` milliseconds and `bytes` bytes from the
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

  /** Forbids POSTs for `wait` milliseconds. */
  holdPosts(wait: number, now: number): void {
    this.#postsAt = Math.max(this.#postsAt, now + wait);
  }

  /** Returns how long POSTs stay forbidden if no other kind is likely to work; otherwise 0. */
  wait(now: number): number {
    const isHopeless = this.#kinds.every(({ kind, isFailing }) => isFailing || isPosted(kind));
    return isHopeless ? Math.max(0, this.#postsAt - now) : 0;
  }

  /** Returns when a better kind is to be tried beside the one in use. */
  get nextTrial(): number {
    return this.#at ? Math.min(...this.#better.map(({ tryAt }) => tryAt)) : Infinity;
  }

  /** Returns the best kind that is due for a trial. It is then not due for a while. */
  takeTrial(now: number): string | undefined {
    const due = this.#better.find(({ tryAt }) => tryAt <= now);
    if (due) due.tryAt = now + TRY_AGAIN;
    return due?.kind;
  }

  /** Switches to a kind over which the server answered in a trial. */
  move(kind: string): void {
    this.#origin = this.#at;
    this.#at = this.#kinds.findIndex((other) => other.kind === kind);
    this.#failures = 0;
  }

  /**
   * Forgets failures, because the network has changed or the user or the application requests an
   * attempt (`isAsked`): what failed before may work now.
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
    // If nothing else works, a short-lived connection is better than none.
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
      // Without access to the storage, the kind is not kept.
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
