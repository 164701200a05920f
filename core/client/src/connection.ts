import type { Environment, Socket } from './environment';
import type { DocumentMachine } from './machine';
import { soon } from './soon';
import { PROTOCOL } from './ticket';

/** Bulk frames are handed to the socket while it holds fewer bytes than this: what a click may have to wait for. */
const SOCKET_BUFFER = 65_536;
/** Milliseconds until the next look at a socket that held more. */
const SOCKET_POLL = 20;
/** A browser takes a longer delay for none. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** How a browser calls a connection lost without a close. */
const LOST = 1006;

/** Does what a machine asks of the outside: opens and closes WebSockets, sends, and wakes it in time. */
export class ConnectionLoop {
  /** Where the next connection goes. */
  url = '';
  readonly #machine: DocumentMachine;
  readonly #now: () => number;
  readonly #environment: Environment;
  /** Called when the machine has taken something in. */
  readonly #handled: () => void;
  #connection = 0;
  #socket: Socket | undefined;
  #timer: unknown;
  #timerAt = Infinity;
  #hasComplained = false;

  constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void) {
    this.#machine = machine;
    this.#now = now;
    this.#environment = environment;
    this.#handled = handled;
  }

  /** Sends what is ready, then does what is asked: in this order a `leave` goes out before its close. */
  flush(): void {
    const isBulkHeld = this.#transmit();
    for (let action; (action = this.#machine.pollAction()); ) {
      if (action.type === 'connect') this.#open(action.connection);
      else this.#socket?.close(action.code);
    }
    this.#arm(isBulkHeld);
  }

  /** Tells whether bulk waits for the socket. */
  #transmit(): boolean {
    const socket = this.#socket;
    if (!socket) return false;
    const now = this.#now();
    const hasRoom = (): boolean => socket.bufferedAmount < SOCKET_BUFFER;
    for (let frame; (frame = this.#machine.pollTransmit(this.#connection, hasRoom(), now)); ) socket.send(frame);
    return this.#machine.phase === 'connected' && !hasRoom() && this.#machine.bufferedCharge(1) > 0;
  }

  #open(connection: number): void {
    this.#connection = connection;
    this.#socket = undefined;
    const close = (code: number): void => {
      this.#machine.handleClose(connection, code, this.#now());
      this.#handled();
    };
    try {
      const socket = new this.#environment.WebSocket(this.url, PROTOCOL);
      socket.binaryType = 'arraybuffer';
      socket.onopen = () => {
        this.#machine.handleOpen(connection, this.#now());
        this.#handled();
      };
      socket.onmessage = ({ data }) => {
        // A text message is malformed, and so is an empty frame.
        this.#machine.handleFrame(connection, new Uint8Array(typeof data === 'string' ? [] : (data as ArrayBuffer)), this.#now());
        this.#handled();
      };
      socket.onclose = ({ code }) => close(code);
      // What the Content-Security-Policy forbids, Chromium tells by this event alone.
      socket.onerror = () => close(LOST);
      this.#socket = socket;
    } catch (error) {
      if (!this.#hasComplained) {
        this.#environment.console.error(
          `stillhere: no WebSocket to ${this.url}: see the ticket's url and connect-src of the page's Content-Security-Policy; an https page needs wss.`,
          error,
        );
      }
      this.#hasComplained = true;
      soon(this.#environment, () => close(LOST));
    }
  }

  /** One timer. One that comes too early looks and is set again, which is cheaper than to move it with every frame. */
  #arm(isBulkHeld: boolean): void {
    let at = this.#machine.pollTimeout() ?? Infinity;
    if (isBulkHeld) at = Math.min(at, this.#now() + SOCKET_POLL);
    if (at >= this.#timerAt) return;
    this.#environment.clearTimeout(this.#timer);
    this.#timerAt = at;
    // Frames that came before the deadline, perhaps during sleep, are handled before it is judged.
    const run = (): void => soon(this.#environment, () => this.#handleTimeout());
    this.#timer = this.#environment.setTimeout(run, Math.min(Math.ceil(at - this.#now()), LONGEST_TIMER));
  }

  #handleTimeout(): void {
    this.#timerAt = Infinity;
    this.#machine.handleTimeout(this.#now());
    this.#handled();
  }
}
