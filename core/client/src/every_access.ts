import type { Access } from './access';
import type { Environment } from './environment';
import { Fallback } from './fallback';
import { type OpenConnection, openWebSocket, WEB_SOCKET, whenRegistered } from './kinds';
import { type Obstacle, Obstacles } from './obstacle';
import { Posts } from './posts';
import { isPosted, Route } from './route';
import { isHeardOver } from './trial';
import { type Bytes, Type } from './wire';

/** Maximum duration in milliseconds of a trial of another kind of connection. */
const TRIAL = 10_000;

/** Frames that a server sends only after it has understood the hello. */
const ANSWERS: readonly (number | undefined)[] = [Type.Offer, Type.Welcome, Type.End];

/** Uses WebSockets, or HTTP requests where WebSockets do not get through, or a registered kind. */
export class EveryAccess implements Access {
  readonly #environment: Environment;
  readonly #obstacles: Obstacles;
  readonly #posts: Posts;
  #url = '';
  /** Undefined before the first ticket. */
  #route: Route | undefined;
  #preferred: string | undefined;
  #kind = '';
  #fallback: Fallback | undefined;
  /** Deadline for an answer to the current attempt. */
  #giveUpAt = Infinity;
  /** When the server first answered on this connection. */
  #heardAt: number | undefined;
  /** Number of bytes received over this connection. */
  #bytes = 0;
  /** True once the outcome of this connection was reported to the route. */
  #isJudged = true;
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

  direct(url: string, preferred: string | undefined): void {
    this.#url = url;
    if (!this.#route || preferred !== this.#preferred) this.#route = new Route(preferred, this.#environment);
    this.#preferred = preferred;
    this.forgive();
  }

  reset(now: number, isAsked: boolean): void {
    this.#route?.reset(now, isAsked);
  }

  begin(connection: number, now: number, carry: (open: OpenConnection) => void): void {
    this.end(now);
    // A browser establishes WebSockets to a host one at a time, so a trial would delay this one.
    this.#trial?.abort();
    const environment = this.#environment;
    const kind = (this.#kind = this.#route!.kind);
    this.#fallback = this.#heardAt = undefined;
    this.#isJudged = this.#posts.isAnswered = false;
    this.#bytes = 0;
    this.#giveUpAt = now + this.#route!.patience;
    if (kind === WEB_SOCKET) carry((handlers) => openWebSocket(environment, handlers));
    else if (isPosted(kind)) carry((handlers) => (this.#fallback = new Fallback(kind, environment, handlers, this.#posts)));
    // The script that registers the kind may load after the first attempt has begun. By the second
    // attempt, it has had ten seconds to load.
    else if (!whenRegistered(kind, carry) && connection === 2) {
      environment.console.error(`stillhere: no script has registered the connection "${kind}".`);
    }
  }

  handleFrame(frame: Bytes, now: number): void {
    this.#bytes += frame.length;
    if (this.#heardAt !== undefined || !ANSWERS.includes(frame[0])) return;
    this.#heardAt = now;
    this.#giveUpAt = Infinity;
    this.#route!.succeed(now);
    this.#obstacles.clear(!isPosted(this.#kind));
  }

  end(now: number, isSilent = false): void {
    this.#giveUpAt = Infinity;
    if (this.#isJudged) return;
    this.#isJudged = true;
    const route = this.#route!;
    route.holdPosts(this.#posts.takeWait(), now);
    if (this.#heardAt !== undefined) return route.lose(now - this.#heardAt, this.#bytes, now);
    if (route.isLast && !this.#posts.isAnswered) this.#obstacles.meetNone(isSilent, this.#url);
    route.fail(isSilent, now);
  }

  forgive(): void {
    this.#isJudged = true;
  }

  wait(now: number): number {
    return this.#route!.wait(now);
  }

  pollTimeouts(isConnected: boolean): [number, number] {
    return [this.#giveUpAt, isConnected && !this.#trial ? this.#route!.nextTrial : Infinity];
  }

  async tryBetter(now: number, isWanted: () => boolean): Promise<boolean> {
    const route = this.#route!;
    const kind = route.takeTrial(now);
    if (!kind) return false;
    const environment = this.#environment;
    const trial = (this.#trial = new AbortController());
    const timer = environment.setTimeout(() => trial.abort(), TRIAL);
    const isHeard = await isHeardOver(kind, this.#url, environment, trial.signal);
    environment.clearTimeout(timer);
    trial.abort();
    this.#trial = undefined;
    if (!isHeard || !isWanted()) return false;
    route.move(kind);
    this.forgive();
    return true;
  }
}
