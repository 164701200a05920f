import type { Environment } from './environment';
import { Fallback } from './fallback';
import { type Connection, openWebSocket, whenRegistered } from './kinds';
import { Code } from './codes';
import type { DocumentMachine } from './machine';
import { type Obstacle, Obstacles } from './obstacle';
import { Posts } from './posts';
import { isPosted, Route, WEB_SOCKET } from './route';
import { soon } from './soon';
import { isHeardOver } from './trial';
import { type Bytes, Type } from './wire';

/**
 * Bulk frames are sent only while the connection buffers fewer bytes than this. This bounds how
 * long interactive messages wait behind them.
 */
const BUFFER = 65_536;
/** Interval in milliseconds at which the buffer is checked. */
const BUFFER_POLL = 20;
/** Maximum delay in milliseconds that a browser timer accepts. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Maximum duration in milliseconds of a trial of another kind of connection. */
const TRIAL = 10_000;
/** Close code that a browser reports for a lost connection. */
const LOST = 1006;
const LEFT = 1000;
/** Frames that a server sends only after it has understood the hello. */
const ANSWERS: readonly (number | undefined)[] = [Type.Offer, Type.Welcome, Type.End];

/** Drives a machine: opens and closes connections, sends frames, and runs the timer. */
export class ConnectionLoop {
  /** Address of the next connection, with the scheme `http:` or `https:`. */
  url = '';
  readonly #machine: DocumentMachine;
  readonly #now: () => number;
  readonly #environment: Environment;
  /** Called after the machine has handled an input. */
  readonly #handled: () => void;
  readonly #obstacles: Obstacles;
  readonly #posts: Posts;
  #route: Route | undefined;
  #preferred: string | undefined;
  #connection = 0;
  #carrier: Connection | undefined;
  /** Kind of the carrier. */
  #kind = '';
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
  #timer: unknown;
  #timerAt = Infinity;
  #hasComplained = false;

  constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void) {
    this.#machine = machine;
    this.#now = now;
    this.#environment = environment;
    this.#handled = handled;
    this.#obstacles = new Obstacles(environment);
    this.#posts = new Posts(environment, this.#obstacles);
  }

  /** Kind of the connection in use: `websocket`, `streamed`, `polled` or a registered one. */
  get kind(): string {
    return this.#carrier instanceof Fallback ? this.#carrier.kind : this.#kind;
  }

  /** Obstacle found by the latest attempts. */
  get obstacle(): Obstacle | null {
    return this.#obstacles.current;
  }

  /** Sets the address and the kind to try first. */
  direct(url: string, preferred: string | undefined): void {
    this.url = url;
    if (!this.#route || preferred !== this.#preferred) this.#route = new Route(preferred, this.#environment);
    this.#preferred = preferred;
    this.#isJudged = true;
  }

  /**
   * Forgets failures because the network has changed, or because the application asks to retry
   * (`isAsked`).
   */
  wake(isAsked = false): void {
    this.#route?.reset(this.#now(), isAsked);
  }

  /**
   * Sends the frames that are ready, then performs the actions. This order sends a `leave` before
   * its close.
   */
  flush(): void {
    const isBulkHeld = this.#transmit();
    for (let action; (action = this.#machine.pollAction()); ) {
      if (action.type === 'connect') this.#open(action.connection);
      else this.#close(action.code);
    }
    this.#arm(isBulkHeld);
  }

  /**
   * Sends the frames that are ready. Returns true if bulk frames wait for the connection's buffer.
   */
  #transmit(): boolean {
    const carrier = this.#carrier;
    if (!carrier) return false;
    const connection = this.#connection;
    const now = this.#now();
    const holdsBulk = (): boolean => this.#machine.bufferedCharge(1) > 0 && carrier.bufferedAmount! >= BUFFER;
    try {
      for (let frame; (frame = this.#machine.pollTransmit(connection, !holdsBulk(), now)); ) carrier.send(frame);
    } catch (error) {
      this.#complain('a connection could not send', error);
      soon(this.#environment, () => this.#lose(connection));
    }
    return this.#machine.phase === 'connected' && holdsBulk();
  }

  #open(connection: number): void {
    this.#judge();
    // A browser establishes WebSockets to a host one at a time, so a trial would delay this one.
    this.#trial?.abort();
    const route = this.#route!;
    const kind = (this.#kind = route.kind);
    this.#connection = connection;
    this.#carrier = this.#heardAt = undefined;
    this.#isJudged = this.#posts.isAnswered = false;
    this.#bytes = 0;
    this.#giveUpAt = this.#now() + route.patience;
    const handlers = {
      url: this.url,
      onopen: () => {
        this.#machine.handleOpen(connection, this.#now());
        this.#handled();
      },
      onmessage: (data: ArrayBuffer | Bytes) => this.#receive(connection, data),
      onclose: (code = LOST) => this.#lose(connection, code),
    };
    if (kind === WEB_SOCKET) this.#carry(connection, () => openWebSocket(this.#environment, handlers));
    else if (isPosted(kind)) this.#carry(connection, () => new Fallback(kind, this.#environment, handlers, this.#posts));
    else {
      const isKnown = whenRegistered(kind, (open) => connection === this.#connection && this.#carry(connection, () => open(handlers)));
      // The script that registers the kind may load after the first attempt has begun. By the
      // second attempt, it has had ten seconds to load.
      if (!isKnown && connection > 1) this.#complain(`no script has registered the connection "${kind}"`);
    }
  }

  #carry(connection: number, open: () => Connection): void {
    try {
      const carrier = open() as Connection | undefined;
      if (!carrier) throw new TypeError('nothing was returned');
      // The connection may already have been lost and replaced.
      if (connection === this.#connection) this.#carrier = carrier;
    } catch (error) {
      this.#complain(
        `cannot open a ${this.#kind} connection to ${this.url}: check the address, and connect-src of the page's Content-Security-Policy; an https page needs wss`,
        error,
      );
      soon(this.#environment, () => this.#lose(connection));
    }
  }

  #close(code: number): void {
    // A page that leaves on its own says nothing about the quality of its connection.
    if (this.#machine.phase === 'left') this.#isJudged = true;
    this.#judge();
    try {
      this.#carrier?.close(code);
    } catch (error) {
      this.#complain('a connection could not be closed', error);
    }
  }

  #receive(connection: number, data: ArrayBuffer | Bytes): void {
    const isBytes = data?.byteLength !== undefined;
    if (!isBytes) this.#complain('a connection delivered no bytes: set binaryType to "arraybuffer"', data);
    // Anything but bytes becomes an empty frame, which is malformed. The constructor of Uint8Array
    // would read a number as a length.
    const frame = isBytes ? new Uint8Array(data) : new Uint8Array();
    if (connection === this.#connection && this.#heardAt === undefined && ANSWERS.includes(frame[0])) {
      this.#heardAt = this.#now();
      this.#giveUpAt = Infinity;
      this.#route!.succeed(this.#heardAt);
      this.#obstacles.clear(!isPosted(this.#kind));
    }
    if (connection === this.#connection) this.#bytes += frame.length;
    this.#machine.handleFrame(connection, frame, this.#now());
    this.#handled();
  }

  #lose(connection: number, code = LOST): void {
    const now = this.#now();
    let wait = 0;
    if (connection === this.#connection) {
      this.#judge();
      wait = this.#route!.wait(now);
    }
    this.#machine.handleClose(connection, code, now, wait);
    this.#handled();
  }

  /** Reports the connection's outcome to the route, once. */
  #judge(isSilent = false): void {
    this.#giveUpAt = Infinity;
    if (this.#isJudged) return;
    this.#isJudged = true;
    const now = this.#now();
    const route = this.#route!;
    route.holdPosts(this.#posts.takeWait(), now);
    if (this.#heardAt !== undefined) return route.lose(now - this.#heardAt, this.#bytes, now);
    if (route.isLast && !this.#posts.isAnswered) this.#obstacles.meetNone(isSilent, this.url);
    route.fail(isSilent, now);
  }

  /** Tries a better kind than the current one, and switches to it if the server answers. */
  async #tryBetter(): Promise<void> {
    const route = this.#route!;
    const kind = route.takeTrial(this.#now());
    if (!kind) return;
    const connection = this.#connection;
    const trial = (this.#trial = new AbortController());
    const timer = this.#environment.setTimeout(() => trial.abort(), TRIAL);
    const isHeard = await isHeardOver(kind, this.url, this.#environment, trial.signal);
    this.#environment.clearTimeout(timer);
    trial.abort();
    this.#trial = undefined;
    if (isHeard && connection === this.#connection && this.#machine.phase === 'connected') {
      route.move(kind);
      this.#isJudged = true;
      this.#close(LEFT);
      this.#lose(connection);
    } else this.#handled();
  }

  get #nextTrial(): number {
    return this.#machine.phase === 'connected' && !this.#trial ? this.#route!.nextTrial : Infinity;
  }

  #complain(what: string, ...details: unknown[]): void {
    if (!this.#hasComplained) this.#environment.console.error(`stillhere: ${what}.`, ...details);
    this.#hasComplained = true;
  }

  /**
   * Sets the timer. If it fires too early, it is set again; this costs less than moving it with
   * every frame.
   */
  #arm(isBulkHeld: boolean): void {
    let at = this.#machine.pollTimeout() ?? Infinity;
    if (isBulkHeld) at = Math.min(at, this.#now() + BUFFER_POLL);
    at = Math.min(at, this.#giveUpAt, this.#nextTrial);
    if (at >= this.#timerAt) return;
    this.#environment.clearTimeout(this.#timer);
    this.#timerAt = at;
    // Frames that arrived before the deadline, perhaps while the machine slept, are handled first.
    const run = (): void => soon(this.#environment, () => this.#handleTimeout());
    this.#timer = this.#environment.setTimeout(run, Math.min(Math.ceil(at - this.#now()), LONGEST_TIMER));
  }

  #handleTimeout(): void {
    this.#timerAt = Infinity;
    const now = this.#now();
    if (now >= this.#giveUpAt) {
      this.#judge(true);
      this.#close(Code.Silent);
      return this.#lose(this.#connection);
    }
    if (now >= this.#nextTrial) void this.#tryBetter();
    this.#machine.handleTimeout(now);
    this.#handled();
  }
}
