import type { Environment } from './environment';

export const WEB_SOCKET = 'websocket';
export const STREAMED = 'streamed';
export const POLLED = 'polled';

/** Milliseconds an attempt may take until the server is heard from; doubled each time that every kind was silent for so long. */
const PATIENCE = 4000;
/** Longer than this is left to the machine's own deadlines. */
const LONGEST_PATIENCE = 8000;
/** A connection that is lost sooner than this had a short life, */
const SHORT_LIFE = 10_000;
/** and one whose first bytes come with its end was held back on the way, however long it took. */
export const HELD_BACK = 100;
/** Short lives in a row, each cut off after about the same time or as many bytes as the one before, until another kind gets its turn. */
const TOLERANCE = 6;
/** Of the greater. */
const ALIKE = 0.1;
/** Milliseconds until a better kind is tried beside the one in use: after such a row, doubled with each further short life; */
const TRY_UNSTABLE = 30_000;
/** and after a trial in vain. */
const TRY_AGAIN = 300_000;
/** Where the tab remembers what got through. */
const KEY = 'stillhere:route';

/** What is known of a kind of connection. */
interface Experience {
  readonly kind: string;
  /** It was the answer to an attempt once. */
  isProven: boolean;
  /** The last attempt was not answered. */
  isFailing: boolean;
  /** Alike and in a row. */
  shortLives: number;
  tolerance: number;
  lastLife: number;
  lastBytes: number;
  /** When it may be tried beside a worse one. */
  tryAt: number;
}

/** Which kind of connection the next attempt takes: the best that the server is heard over, tried in turn until then. */
export class Route {
  readonly #kinds: readonly Experience[];
  readonly #environment: Environment;
  readonly #isChosen: boolean;
  #at = 0;
  /** Attempts in a row that were not answered, of the kind in use. */
  #failures = 0;
  /** Attempts that were silent for all of their time, since the server was last heard from. */
  #silences = 0;
  /** The kind that worked before a trial led to the one in use, which has to last to be preferred to it. */
  #origin = -1;
  /** Until when the server, or what stands before it, wants no POSTs. */
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

  /** There is no kind after this one that might do better. */
  get isLast(): boolean {
    return this.#at === this.#kinds.length - 1;
  }

  /** How long the attempt may go without an answer. A kind of the page's own has the machine's time. */
  get patience(): number {
    const patience = PATIENCE * 2 ** Math.floor(this.#silences / this.#kinds.length);
    return isOurs(this.kind) && patience <= LONGEST_PATIENCE ? patience : Infinity;
  }

  /** The attempt is over and was not answered; `isSilent`: it had all its time. */
  fail(isSilent: boolean, now: number): void {
    const current = this.#kinds[this.#at]!;
    current.isFailing = true;
    this.#silences += Number(isSilent);
    // What worked before may do so again, and a script that makes connections may come late.
    if (++this.#failures >= (current.isProven || !isOurs(current.kind) ? 2 : 1) || this.#isHeld(now)) this.#turn(now);
  }

  /** The attempt was answered. */
  succeed(now: number): void {
    const current = this.#kinds[this.#at]!;
    this.#failures = this.#silences = this.#postsAt = 0;
    current.isProven = true;
    current.isFailing = false;
    this.#remember();
    // Perhaps it was the server that could not be reached, not the better kinds.
    for (const better of this.#better) {
      const excess = better.shortLives - TOLERANCE;
      better.tryAt = excess < 0 ? now : now + Math.min(TRY_UNSTABLE * 2 ** excess, TRY_AGAIN);
    }
  }

  /** A connection that was answered is lost after `life` milliseconds and so many bytes from the server. */
  lose(life: number, bytes: number, now: number): void {
    const current = this.#kinds[this.#at]!;
    if (!isOurs(current.kind)) return;
    if (current.kind === STREAMED && life < HELD_BACK) {
      current.isFailing = true;
      return this.#turn(now);
    }
    // A box cuts each connection at the same point; chance, or a person who pulls a plug, does not.
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

  /** POSTs are not wanted for `wait` milliseconds. */
  holdPosts(wait: number, now: number): void {
    this.#postsAt = Math.max(this.#postsAt, now + wait);
  }

  /** How long the next attempt has to wait because no other kind promises more. */
  wait(now: number): number {
    const isHopeless = this.#kinds.every(({ kind, isFailing }) => isFailing || isPosted(kind));
    return isHopeless ? Math.max(0, this.#postsAt - now) : 0;
  }

  /** When a better kind is to be tried beside the one in use. */
  get nextTrial(): number {
    return Math.min(...this.#better.map(({ tryAt }) => tryAt));
  }

  /** The best kind that is due to be tried, which it is then not for a while. */
  takeTrial(now: number): string | undefined {
    const due = this.#better.find(({ tryAt }) => tryAt <= now);
    if (due) due.tryAt = now + TRY_AGAIN;
    return due?.kind;
  }

  /** The kind was heard over in a trial. */
  move(kind: string): void {
    this.#origin = this.#at;
    this.#at = this.#kinds.findIndex((other) => other.kind === kind);
    this.#failures = 0;
  }

  /** The network has changed, or somebody says so (`isAsked`): what did not get through may do so now. */
  reset(now: number, isAsked: boolean): void {
    this.#silences = this.#failures = 0;
    if (isAsked) this.#postsAt = 0;
    if (this.#isChosen) this.#at = 0;
    for (const kind of this.#kinds) Object.assign(kind, { isFailing: false, shortLives: 0, tolerance: TOLERANCE, tryAt: now });
  }

  /** Kinds that are better than the one in use and can be tried beside it. */
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
    // Where nothing else gets through, one that does not last is better than none.
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
      // Storage that is forbidden remembers nothing.
    }
  }
}

/** The connection is made of POSTs. */
export function isPosted(kind: string): boolean {
  return kind === STREAMED || kind === POLLED;
}

function isOurs(kind: string): boolean {
  return kind === WEB_SOCKET || isPosted(kind);
}

function isNear(one: number, other: number): boolean {
  return Math.abs(one - other) <= ALIKE * Math.max(one, other);
}
