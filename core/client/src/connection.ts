import type { Access } from './access';
import { Code } from './codes';
import type { Environment } from './environment';
import { type Connection, type ConnectionHandlers, type OpenConnection, whenRegistered } from './kinds';
import type { DocumentMachine } from './machine';
import { soon } from './soon';
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
/** Close code that a browser reports for a lost connection. */
const LOST = 1006;
const LEFT = 1000;
/** Frames that a server sends only after it has understood the hello. */
const ANSWERS: readonly (number | undefined)[] = [Type.Offer, Type.Welcome, Type.End];

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
  /** Deadline for an answer to the current attempt. */
  #giveUpAt = Infinity;
  /** When the server first answered on this connection. */
  #heardAt: number | undefined;
  /** Number of bytes received over this connection. */
  #bytes = 0;
  /** True once the outcome of this connection was reported. */
  #isJudged = true;
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
    this.access.prefer(preferred);
    this.#isJudged = true;
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
    this.#connection = connection;
    this.#carrier = this.#heardAt = undefined;
    this.#isJudged = false;
    this.#bytes = 0;
    this.#giveUpAt = this.#now() + this.access.begin();
    const handlers = {
      url: this.url,
      onopen: () => {
        this.#machine.handleOpen(connection, this.#now());
        this.#handled();
      },
      onmessage: (data: ArrayBuffer | Bytes) => this.#receive(connection, data),
      onclose: (code = LOST) => this.#lose(connection, code),
    };
    const { kind, opener } = this.access;
    if (opener) this.#carry(connection, opener, handlers);
    else {
      const isKnown = whenRegistered(kind, (open) => connection === this.#connection && this.#carry(connection, open, handlers));
      // The script that registers the kind may load after the first attempt has begun. By the
      // second attempt, it has had ten seconds to load.
      if (!isKnown && connection > 1) this.#complain(`no script has registered the connection "${kind}"`);
    }
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
      this.access.succeed(this.#heardAt);
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
      wait = this.access.wait(now);
    }
    this.#machine.handleClose(connection, code, now, wait);
    this.#handled();
  }

  /** Reports the connection's outcome, once. */
  #judge(isSilent = false): void {
    this.#giveUpAt = Infinity;
    if (this.#isJudged) return;
    this.#isJudged = true;
    const now = this.#now();
    if (this.#heardAt === undefined) this.access.fail(isSilent, this.url, now);
    else this.access.lose(now - this.#heardAt, this.#bytes, now);
  }

  /** Tries a better kind than the current one, and switches to it if the server answers. */
  async #tryBetter(now: number): Promise<void> {
    const connection = this.#connection;
    const isWanted = (): boolean => connection === this.#connection && this.#machine.phase === 'connected';
    if (await this.access.tryBetter(this.url, now, isWanted)) {
      this.#isJudged = true;
      this.#close(LEFT);
      this.#lose(connection);
    } else this.#handled();
  }

  get #nextTrial(): number {
    return this.#machine.phase === 'connected' ? this.access.nextTrial : Infinity;
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
    if (now >= this.#nextTrial) void this.#tryBetter(now);
    this.#machine.handleTimeout(now);
    this.#handled();
  }
}
