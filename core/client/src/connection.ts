import type { Environment } from './environment';
import { Fallback } from './fallback';
import { type Connection, openWebSocket, whenRegistered } from './kinds';
import type { DocumentMachine } from './machine';
import { FALLBACK, Route, WEB_SOCKET } from './route';
import { soon } from './soon';
import { type Bytes, Type } from './wire';

/** Bulk frames are handed to the connection while it holds fewer bytes than this: what a click may have to wait for. */
const BUFFER = 65_536;
/** Milliseconds until the next look at one that held more. */
const BUFFER_POLL = 20;
/** A browser takes a longer delay for none. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Milliseconds until a page that gets along without WebSockets tries one again. */
const TRY_AGAIN = 300_000;
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
  #route: Route;
  #connection = 0;
  #carrier: Connection | undefined;
  /** Of the carrier. */
  #kind = '';
  #isHeard = true;
  #hasOpened = false;
  /** WebSockets in a row that opened and carried no answer. */
  #mute = 0;
  #endTrial: (() => void) | undefined;
  /** When a WebSocket is to be tried beside a connection of the fallback. */
  #tryAt = Infinity;
  #timer: unknown;
  #timerAt = Infinity;
  #hasComplained = false;

  constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void) {
    this.#machine = machine;
    this.#now = now;
    this.#environment = environment;
    this.#handled = handled;
    this.#route = new Route(undefined, environment);
  }

  /** The kind of the connection in use: `websocket`, `http` or one that was registered. */
  get kind(): string {
    return this.#kind;
  }

  /** Where to connect, and by which kind first. */
  direct(url: string, preferred: string | undefined): void {
    this.url = url;
    this.#route = new Route(preferred, this.#environment);
    this.#isHeard = true;
  }

  /** The network has changed: what did not get through may do so now. */
  wake(): void {
    if (this.#kind === FALLBACK) this.#tryWebSocket();
    else if (this.#machine.phase !== 'connected') this.#route.reset();
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
    if (!this.#isHeard) {
      this.#route.fail();
      if (this.#hasOpened && this.#kind === WEB_SOCKET) this.#mute += 1;
    }
    this.#isHeard = this.#hasOpened = false;
    // A browser opens one WebSocket to a host after the other.
    this.#endTrial?.();
    this.#connection = connection;
    this.#carrier = undefined;
    this.#tryAt = Infinity;
    const kind = (this.#kind = this.#route.kind);
    const handlers = {
      url: this.url,
      onopen: () => {
        if (connection === this.#connection) this.#hasOpened = true;
        this.#machine.handleOpen(connection, this.#now());
        this.#handled();
      },
      onmessage: (data: ArrayBuffer | Bytes) => this.#receive(connection, data),
      onclose: (code = LOST) => this.#lose(connection, code),
    };
    if (kind === WEB_SOCKET) this.#carry(connection, () => openWebSocket(this.#environment, handlers));
    else if (kind === FALLBACK) this.#carry(connection, () => new Fallback(this.#environment, handlers));
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
    if (connection === this.#connection && !this.#isHeard && ANSWERS.includes(frame[0])) {
      this.#isHeard = true;
      this.#route.succeed();
      // Perhaps it was the server that could not be reached, not the WebSocket; unless one opened, and what it carried got lost.
      if (this.#kind === FALLBACK) this.#tryAt = this.#now() + (this.#mute && TRY_AGAIN * 2 ** Math.min(this.#mute >> 1, 5));
      else this.#mute = 0;
    }
    this.#machine.handleFrame(connection, frame, this.#now());
    this.#handled();
  }

  #lose(connection: number, code = LOST): void {
    this.#machine.handleClose(connection, code, this.#now());
    this.#handled();
  }

  /** One that opens beside the fallback takes its place. */
  #tryWebSocket(): void {
    this.#tryAt = this.#now() + TRY_AGAIN;
    const connection = this.#connection;
    this.#endTrial?.();
    const end = (this.#endTrial = () => trial?.close(LEFT));
    const onopen = (): void => {
      end();
      if (connection !== this.#connection || this.#machine.phase !== 'connected') return;
      this.#route.reset();
      this.#carrier?.close(LEFT);
      this.#lose(connection);
    };
    let trial: Connection | undefined;
    try {
      trial = openWebSocket(this.#environment, { url: this.url, onopen, onmessage: end, onclose() {} });
    } catch {
      // Then there are none.
    }
  }

  #complain(what: string, ...details: unknown[]): void {
    if (!this.#hasComplained) this.#environment.console.error(`stillhere: ${what}.`, ...details);
    this.#hasComplained = true;
  }

  /** One timer. One that comes too early looks and is set again, which is cheaper than to move it with every frame. */
  #arm(isBulkHeld: boolean): void {
    let at = this.#machine.pollTimeout() ?? Infinity;
    if (isBulkHeld) at = Math.min(at, this.#now() + BUFFER_POLL);
    at = Math.min(at, this.#tryAt);
    if (at >= this.#timerAt) return;
    this.#environment.clearTimeout(this.#timer);
    this.#timerAt = at;
    // Frames that came before the deadline, perhaps during sleep, are handled before it is judged.
    const run = (): void => soon(this.#environment, () => this.#handleTimeout());
    this.#timer = this.#environment.setTimeout(run, Math.min(Math.ceil(at - this.#now()), LONGEST_TIMER));
  }

  #handleTimeout(): void {
    this.#timerAt = Infinity;
    if (this.#now() >= this.#tryAt) this.#tryWebSocket();
    this.#machine.handleTimeout(this.#now());
    this.#handled();
  }
}
