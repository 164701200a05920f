import type { Access } from './access';
import { Code } from './codes';
import type { Environment } from './environment';
import type { Connection, ConnectionHandlers, OpenConnection } from './kinds';
import type { DocumentMachine } from './machine';
import { soon } from './soon';
import type { Bytes } from './wire';

/**
 * Bulk frames are sent only while the connection buffers fewer bytes than this. This bounds how
 * long interactive messages wait behind them.
 */
const BUFFER = 65_536;
/** Interval in milliseconds at which the buffer is checked. */
const BUFFER_POLL = 20;
/** Maximum delay in milliseconds that a browser timer accepts. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Close code that a browser reports for a lost connection. */
const LOST = 1006;
const LEFT = 1000;

/** Drives a machine: opens and closes connections, sends frames, and runs the timer. */
export class ConnectionLoop {
  /** Address of the next connection, with the scheme `http:` or `https:`. */
  url = '';
  /** Opens the connections. */
  readonly access: Access;
  readonly #machine: DocumentMachine;
  readonly #now: () => number;
  readonly #environment: Environment;
  /** Called after the machine has handled an input. */
  readonly #handled: () => void;
  #connection = 0;
  #carrier: Connection | undefined;
  #timer: unknown;
  #timerAt = Infinity;
  #hasComplained = false;

  constructor(machine: DocumentMachine, access: Access, now: () => number, environment: Environment, handled: () => void) {
    this.#machine = machine;
    this.access = access;
    this.#now = now;
    this.#environment = environment;
    this.#handled = handled;
  }

  /** Sets the address and the kind to try first. */
  direct(url: string, preferred: string | undefined): void {
    this.url = url;
    this.access.direct(url, preferred);
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
    return this.#isConnected && holdsBulk();
  }

  #open(connection: number): void {
    this.#connection = connection;
    this.#carrier = undefined;
    const handlers = {
      url: this.url,
      onopen: () => {
        this.#machine.handleOpen(connection, this.#now());
        this.#handled();
      },
      onmessage: (data: ArrayBuffer | Bytes) => this.#receive(connection, data),
      onclose: (code = LOST) => this.#lose(connection, code),
    };
    this.access.begin(connection, this.#now(), (open) => connection === this.#connection && this.#carry(connection, open, handlers));
  }

  #carry(connection: number, open: OpenConnection, handlers: ConnectionHandlers): void {
    try {
      const carrier = open(handlers) as Connection | undefined;
      if (!carrier) throw new TypeError('nothing was returned');
      // The connection may already have been lost and replaced.
      if (connection === this.#connection) this.#carrier = carrier;
    } catch (error) {
      this.#complain(
        `cannot open a ${this.access.kind} connection to ${this.url}: check the address, and connect-src of the page's Content-Security-Policy; an https page needs wss`,
        error,
      );
      soon(this.#environment, () => this.#lose(connection));
    }
  }

  #close(code: number): void {
    // A page that leaves on its own says nothing about the quality of its connection.
    if (this.#machine.phase === 'left') this.access.forgive();
    this.access.end(this.#now());
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
    const now = this.#now();
    if (connection === this.#connection) this.access.handleFrame(frame, now);
    this.#machine.handleFrame(connection, frame, now);
    this.#handled();
  }

  #lose(connection: number, code = LOST): void {
    const now = this.#now();
    let wait = 0;
    if (connection === this.#connection) {
      this.access.end(now);
      wait = this.access.wait(now);
    }
    this.#machine.handleClose(connection, code, now, wait);
    this.#handled();
  }

  /** Tries a better kind than the current one, and switches to it if the server answers. */
  async #tryBetter(now: number): Promise<void> {
    const connection = this.#connection;
    if (await this.access.tryBetter!(now, () => connection === this.#connection && this.#isConnected)) {
      this.#close(LEFT);
      this.#lose(connection);
    } else this.#handled();
  }

  get #isConnected(): boolean {
    return this.#machine.phase === 'connected';
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
    if (!SLIM) at = Math.min(at, ...this.access.pollTimeouts!(this.#isConnected));
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
    if (!SLIM) {
      const [giveUpAt, tryAt] = this.access.pollTimeouts!(this.#isConnected);
      if (now >= giveUpAt) {
        this.access.end(now, true);
        this.#close(Code.Silent);
        return this.#lose(this.#connection);
      }
      if (now >= tryAt) void this.#tryBetter(now);
    }
    this.#machine.handleTimeout(now);
    this.#handled();
  }
}
