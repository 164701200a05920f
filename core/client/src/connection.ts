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

/** Bulk frames are handed to the connection while it holds fewer bytes than this: what a click may have to wait for. */
const BUFFER = 65_536;
/** Milliseconds until the next look at one that held more. */
const BUFFER_POLL = 20;
/** A browser takes a longer delay for none. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Milliseconds that a kind of connection may take which is tried beside another. */
const TRIAL = 10_000;
/** How a browser calls a connection lost without a close. */
const LOST = 1006;
const LEFT = 1000;
/** What only a server says that has understood the hello. */
const ANSWERS: readonly (number | undefined)[] = [Type.Offer, Type.Welcome, Type.End];

/** Does what a machine asks of the outside: opens and closes connections, sends, and wakes it in time. */
export class ConnectionLoop {
  /** Where the next connection goes, `http:` or `https:`. */
  url = '';
  readonly #machine: DocumentMachine;
  readonly #now: () => number;
  readonly #environment: Environment;
  /** Called when the machine has taken something in. */
  readonly #handled: () => void;
  readonly #obstacles: Obstacles;
  readonly #posts: Posts;
  #route: Route | undefined;
  #preferred: string | undefined;
  #connection = 0;
  #carrier: Connection | undefined;
  /** Of the carrier. */
  #kind = '';
  /** When an attempt is over that is not answered by then. */
  #giveUpAt = Infinity;
  /** When the server was first heard over this connection. */
  #heardAt: number | undefined;
  /** Received over this connection. */
  #bytes = 0;
  /** The route knows how this connection went. */
  #isJudged = true;
  /** Of the kind that is tried beside the one in use. */
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

  /** The kind of the connection in use: `websocket`, `streamed`, `polled` or one that was registered. */
  get kind(): string {
    return this.#carrier instanceof Fallback ? this.#carrier.kind : this.#kind;
  }

  /** What the last attempts met. */
  get obstacle(): Obstacle | null {
    return this.#obstacles.current;
  }

  /** Where to connect, and by which kind first. */
  direct(url: string, preferred: string | undefined): void {
    this.url = url;
    if (!this.#route || preferred !== this.#preferred) this.#route = new Route(preferred, this.#environment);
    this.#preferred = preferred;
    this.#isJudged = true;
  }

  /** The network has changed, or somebody says so (`isAsked`): what did not get through may do so now. */
  wake(isAsked = false): void {
    this.#route?.reset(this.#now(), isAsked);
  }

  /** Sends what is ready, then does what is asked: in this order a `leave` goes out before its close. */
  flush(): void {
    const isBulkHeld = this.#transmit();
    for (let action; (action = this.#machine.pollAction()); ) {
      if (action.type === 'connect') this.#open(action.connection);
      else this.#close(action.code);
    }
    this.#arm(isBulkHeld);
  }

  /** Tells whether bulk waits for the connection. */
  #transmit(): boolean {
    const carrier = this.#carrier;
    if (!carrier) return false;
    const connection = this.#connection;
    const now = this.#now();
    const hasRoom = (): boolean => !(carrier.bufferedAmount! >= BUFFER);
    try {
      for (let frame; (frame = this.#machine.pollTransmit(connection, hasRoom(), now)); ) carrier.send(frame);
    } catch (error) {
      this.#complain('a connection could not send', error);
      soon(this.#environment, () => this.#lose(connection));
    }
    return this.#machine.phase === 'connected' && !hasRoom() && this.#machine.bufferedCharge(1) > 0;
  }

  #open(connection: number): void {
    this.#judge();
    // A browser opens one WebSocket to a host after the other.
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
      // The script may come after the first attempt has begun; by the second it had ten seconds.
      if (!isKnown && connection > 1) this.#complain(`no script of the page has registered a connection named "${kind}"`);
    }
  }

  #carry(connection: number, open: () => Connection): void {
    try {
      const carrier = open() as Connection | undefined;
      if (!carrier) throw new TypeError('nothing was returned');
      // It may be lost already, and have a successor.
      if (connection === this.#connection) this.#carrier = carrier;
    } catch (error) {
      this.#complain(
        `no ${this.#kind} connection to ${this.url}: see the ticket's url and connect-src of the page's Content-Security-Policy; an https page needs wss`,
        error,
      );
      soon(this.#environment, () => this.#lose(connection));
    }
  }

  #close(code: number): void {
    // A page that goes away by itself says nothing about its connection.
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
    if (!isBytes) this.#complain('a connection gave what is no bytes: a socket needs binaryType "arraybuffer"', data);
    // What is no bytes is not converted, for a number would be a length: it is malformed, as an empty frame is.
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

  /** Tells the route how the connection went, once. */
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

  /** A better kind than the one in use may be heard over by now: then it takes its place. */
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

  /** One timer. One that comes too early looks and is set again, which is cheaper than to move it with every frame. */
  #arm(isBulkHeld: boolean): void {
    let at = this.#machine.pollTimeout() ?? Infinity;
    if (isBulkHeld) at = Math.min(at, this.#now() + BUFFER_POLL);
    at = Math.min(at, this.#giveUpAt, this.#nextTrial);
    if (at >= this.#timerAt) return;
    this.#environment.clearTimeout(this.#timer);
    this.#timerAt = at;
    // Frames that came before the deadline, perhaps during sleep, are handled before it is judged.
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
