import type { Access } from './access';
import type { Environment } from './environment';
import { Fallback } from './fallback';
import { type OpenConnection, openWebSocket, WEB_SOCKET } from './kinds';
import { type Obstacle, Obstacles } from './obstacle';
import { Posts } from './posts';
import { isPosted, Route } from './route';
import { isHeardOver } from './trial';

/** Maximum duration in milliseconds of a trial of another kind of connection. */
const TRIAL = 10_000;

/** Uses WebSockets, or HTTP requests where WebSockets do not get through. */
export class EveryAccess implements Access {
  readonly #environment: Environment;
  readonly #obstacles: Obstacles;
  readonly #posts: Posts;
  /** Undefined before the first ticket. */
  #route: Route | undefined;
  #preferred: string | undefined;
  #kind = '';
  #fallback: Fallback | undefined;
  /** Cancels the trial of another kind. */
  #trial: AbortController | undefined;

  constructor(environment: Environment) {
    this.#environment = environment;
    this.#obstacles = new Obstacles(environment);
    this.#posts = new Posts(environment, this.#obstacles);
  }

  /** `websocket`, `streamed`, `polled` or a registered kind. */
  get kind(): string {
    return this.#fallback?.kind ?? this.#kind;
  }

  get obstacle(): Obstacle | null {
    return this.#obstacles.current;
  }

  get nextTrial(): number {
    return this.#trial ? Infinity : this.#route!.nextTrial;
  }

  get opener(): OpenConnection | undefined {
    const kind = this.#kind;
    if (isPosted(kind)) return (handlers) => (this.#fallback = new Fallback(kind, this.#environment, handlers, this.#posts));
    return kind === WEB_SOCKET ? (handlers) => openWebSocket(this.#environment, handlers) : undefined;
  }

  prefer(kind: string | undefined): void {
    if (!this.#route || kind !== this.#preferred) this.#route = new Route(kind, this.#environment);
    this.#preferred = kind;
  }

  reset(now: number, isAsked: boolean): void {
    this.#route?.reset(now, isAsked);
  }

  begin(): number {
    // A browser establishes WebSockets to a host one at a time, so a trial would delay this one.
    this.#trial?.abort();
    this.#kind = this.#route!.kind;
    this.#fallback = undefined;
    this.#posts.isAnswered = false;
    return this.#route!.patience;
  }

  succeed(now: number): void {
    this.#route!.succeed(now);
    this.#obstacles.clear(!isPosted(this.#kind));
  }

  fail(isSilent: boolean, url: string, now: number): void {
    this.#holdPosts(now);
    if (this.#route!.isLast && !this.#posts.isAnswered) this.#obstacles.meetNone(isSilent, url);
    this.#route!.fail(isSilent, now);
  }

  lose(life: number, bytes: number, now: number): void {
    this.#holdPosts(now);
    this.#route!.lose(life, bytes, now);
  }

  wait(now: number): number {
    return this.#route!.wait(now);
  }

  async tryBetter(url: string, now: number, isWanted: () => boolean): Promise<boolean> {
    const route = this.#route!;
    const kind = route.takeTrial(now);
    if (!kind) return false;
    const environment = this.#environment;
    const trial = (this.#trial = new AbortController());
    const timer = environment.setTimeout(() => trial.abort(), TRIAL);
    const isHeard = await isHeardOver(kind, url, environment, trial.signal);
    environment.clearTimeout(timer);
    trial.abort();
    this.#trial = undefined;
    if (!isHeard || !isWanted()) return false;
    route.move(kind);
    return true;
  }

  #holdPosts(now: number): void {
    this.#route!.holdPosts(this.#posts.takeWait(), now);
  }
}
