import { Attention } from './attention';
import { sleepAwareClock } from './clock';
import { Reason } from './codes';
import { ConnectionLoop } from './connection';
import { Delivery, type LaneName, type MessageHandler } from './delivery';
import type { Environment, Listenable } from './environment';
import { DocumentMachine, OutboxFull, SessionOver, TooLarge } from './machine';
import { nameOfCode, nameOfReason } from './names';
import { PresentedTicket } from './presented';
import { sharedIn } from './shared';
import { soon } from './soon';
import { CONNECTING, isNews, type Status, statusAfter, statusIn } from './status';
import { isRefused, isStatic, type OpenTicket, type Ticket } from './ticket';
import type { Lane } from './wire';

export interface Options {
  /** How much may wait in each lane until the server has it: bytes, and 64 for each message or fragment. Default 4 MiB. */
  outbox?: number;
  /** What a relative url in the ticket is relative to; default the page, as for the `src` of a script. */
  url?: string;
  onmessage?: MessageHandler;
  onstatus?: (status: Status) => void;
}

/** Bytes to send; they are copied. */
export type Data = ArrayBuffer | ArrayBufferView;

/** What a session consists of while it can do anything. */
interface Parts {
  readonly machine: DocumentMachine;
  readonly presented: PresentedTicket;
  readonly loop: ConnectionLoop;
  readonly delivery: Delivery;
}

/** Connects this page with the session of its ticket; throws if it is no ticket. The same ticket gives the same session as long as that lives. */
export function connect(ticket: Ticket, options: Options = {}): Session {
  return connectIn(window, ticket, options);
}

/** For `connect` and for tests. */
export function connectIn(environment: Environment, ticket: Ticket, options: Options = {}): Session {
  const living = sharedIn(environment).sessions.get((ticket as Partial<OpenTicket> | undefined)?.id ?? '');
  return living ? living(options) : new Session(ticket, options, environment);
}

/** The page's end of a session. It outlives its connections: what was sent arrives, once and in order. */
export class Session {
  /** Called with every change of `status`. */
  onstatus: ((status: Status) => void) | null;
  readonly #environment: Environment;
  readonly #now: () => number;
  /** Aborted when the page's life no longer matters. */
  readonly #watching = new AbortController();
  /** Watched while there is no connection. */
  readonly #attention: Attention;
  readonly #pings = new Map<number, { resolve(roundTrip: number): void; reject(error: Error): void }>();
  #status = CONNECTING;
  /** Callers of `connect` that have not called `close`. */
  #holders = 1;
  /** Absent when the server had no room for the session, and once the page has closed it. */
  #parts: Parts | undefined;

  /** For `connectIn` and for tests. */
  constructor(ticket: Ticket, options: Options, environment: Environment) {
    this.onstatus = options.onstatus ?? null;
    this.#environment = environment;
    this.#now = sleepAwareClock(environment);
    this.#attention = new Attention(environment, () => this.#wake());
    if (isRefused(ticket)) {
      const { code, retryAfter, text } = ticket.refused;
      this.#status = { ...CONNECTING, state: 'refused', code, reason: nameOfCode(code), text, retryAt: environment.Date.now() + retryAfter };
    } else if (isStatic(ticket)) {
      this.#status = { ...CONNECTING, state: 'refused', reason: 'NoServer', text: 'this page was made without a server behind it' };
    } else {
      this.#parts = this.#assemble(ticket, options);
      sharedIn(environment).sessions.set(ticket.id, (options) => this.#join(options));
      void this.#begin(this.#parts);
      return;
    }
    queueMicrotask(() => this.#tell()); // once the caller can have set it
  }

  /** The session in use: after a reload perhaps that of the page before. Empty if the server had no room, and once closed. */
  get id(): string {
    return this.#parts?.presented.credentials.ticket.id ?? '';
  }

  /** The kind of the connection in use: `websocket`; `streamed` or `polled` where those do not get through; or one that was registered. */
  get connection(): string {
    return this.#parts?.loop.kind ?? '';
  }

  get status(): Status {
    return this.#status;
  }

  /** Gets each message; those that arrive while there is none wait. Messages received before the end are still handed over after it. */
  get onmessage(): MessageHandler | null {
    return this.#parts?.delivery.handler ?? null;
  }

  set onmessage(handler: MessageHandler | null) {
    if (this.#parts) this.#parts.delivery.handler = handler;
  }

  /** Sends ahead of all bulk. Throws `OutboxFull`, `TooLarge` or `SessionOver`. */
  send(data: Data): void {
    this.#send(0, data);
  }

  /** Sends in the lane for large transfers. Throws as `send` does. */
  sendBulk(data: Data): void {
    this.#send(1, data);
  }

  /** What the server has not acknowledged, in one lane or in both: bytes, and 64 for each message or fragment. */
  bufferedAmount(lane?: LaneName): number {
    const machine = this.#parts?.machine;
    if (!machine) return 0;
    return (lane === 'bulk' ? 0 : machine.bufferedCharge(0)) + (lane === 'interactive' ? 0 : machine.bufferedCharge(1));
  }

  /** Measures the round trip in milliseconds; rejects when there is no connection or it is lost before the answer. */
  ping(): Promise<number> {
    return new Promise((resolve, reject) => {
      const parts = this.#parts;
      if (parts?.machine.phase !== 'connected') return reject(noPong());
      this.#pings.set(parts.machine.ping(this.#now()), { resolve, reject });
      parts.loop.flush();
    });
  }

  /** Tries to connect now, also where the server or a proxy asks the page to wait. A session that is over stays over. */
  retry(): void {
    const parts = this.#parts;
    if (!parts) return;
    parts.loop.wake(true);
    parts.machine.handleRetry(this.#now());
    this.#pump();
  }

  /**
   * Leaves for good, once each caller of `connect` has closed the session and the task at hand is over, so that code that is run again keeps it.
   * What the server has not acknowledged may be lost: wait until `bufferedAmount()` is 0 if it matters.
   */
  close(): void {
    if (!this.#holders || --this.#holders) return;
    this.#parts?.delivery.stop();
    soon(this.#environment, () => this.#holders || this.#end());
  }

  /** Another caller of `connect` shares the session. */
  #join({ onmessage, onstatus }: Options): this {
    this.#holders += 1;
    const delivery = this.#parts?.delivery;
    if (onmessage && delivery) delivery.handler = onmessage;
    delivery?.start();
    if (onstatus) {
      this.onstatus = onstatus;
      queueMicrotask(() => this.#tell());
    }
    return this;
  }

  #end(): void {
    const parts = this.#parts;
    if (!parts) return;
    this.#parts = undefined;
    const { machine, loop } = parts;
    const isOver = machine.phase === 'over';
    machine.handleLeave(this.#now());
    loop.flush();
    this.#retire(parts);
    if (isOver) return;
    const unacknowledged = machine.unacknowledgedMessages();
    const reason = nameOfReason(Reason.Closed);
    this.#report({ ...this.#status, state: 'ended', code: 1000, reason, text: 'closed by this page', retryAt: null, unacknowledged });
  }

  #send(lane: Lane, data: Data): void {
    const bytes = bytesOf(data);
    const parts = this.#parts;
    if (!parts || !this.#holders || parts.machine.phase === 'over') {
      throw new SessionOver(`The session is over (${this.#status.reason || 'Closed'}): reload the page for a new one.`);
    }
    const { machine, presented, loop } = parts;
    const limit = presented.credentials.ticket.limits.message;
    if (bytes.length > limit) {
      throw new TooLarge(`A message of ${bytes.length} bytes is above the session's limit of ${limit}: send it in parts, or raise the limit.`);
    }
    try {
      machine.send(lane, bytes, this.#now());
    } catch (error) {
      if (!(error instanceof OutboxFull)) throw error;
      const waiting = machine.bufferedCharge(lane);
      throw new OutboxFull(`${waiting} bytes wait: the network or the server is slow. Wait until bufferedAmount() falls, or drop the message.`);
    }
    loop.flush();
  }

  #assemble(own: OpenTicket, options: Options): Parts {
    const environment = this.#environment;
    const now = this.#now;
    const pump = (): void => this.#pump();
    const presented = new PresentedTicket(own, options.url ?? environment.document.baseURI, environment);
    const machine = new DocumentMachine({
      ...options,
      secret: presented.credentials.secret,
      document: environment.crypto.getRandomValues(new Uint8Array(16)),
      limits: own.limits,
      random: environment.Math.random,
    });
    const loop = new ConnectionLoop(machine, now, environment, pump);
    const delivery = new Delivery(machine, own.limits.inflated, now, environment, pump);
    delivery.handler = options.onmessage ?? null;
    return { machine, presented, loop, delivery };
  }

  async #begin(parts: Parts): Promise<void> {
    const { document } = this.#environment;
    if (document.prerendering) await new Promise((activated) => document.addEventListener('prerenderingchange', activated, { once: true }));
    const { machine, presented } = parts;
    await presented.choose();
    if (!this.#holders) await new Promise<void>((over) => soon(this.#environment, over)); // closed in the same task
    if (!this.#parts) return presented.discard(); // closed meanwhile
    this.#watchPage(parts);
    this.#present(parts);
    machine.handleHidden(document.hidden, this.#now());
    machine.start(this.#now());
    this.#pump();
  }

  #watchPage({ machine, presented, loop }: Parts): void {
    const page = this.#environment;
    const { document } = page;
    const { signal } = this.#watching;
    const on = (target: Listenable, type: string, handle: (now: number, event: Event) => void): void => {
      const listener = (event: Event): void => {
        handle(this.#now(), event);
        this.#pump();
      };
      target.addEventListener(type, listener, { signal });
    };
    const wake = (now: number): void => machine.handleWake(now);
    on(document, 'visibilitychange', (now) => machine.handleHidden(document.hidden, now));
    on(document, 'resume', wake);
    on(page, 'online', (now) => {
      loop.wake();
      wake(now);
    });
    on(page, 'pagehide', (now) => {
      if (!this.#holders) return this.#end();
      machine.handleLeave(now);
      presented.leave();
    });
    on(page, 'pageshow', (now, event) => {
      if (!(event as PageTransitionEvent).persisted) return;
      presented.hold();
      wake(now);
    });
  }

  /** The user is here and would see that nothing happens. */
  #wake(): void {
    this.#parts?.machine.handleWake(this.#now());
    this.#pump();
  }

  #present({ machine, presented, loop }: Parts): void {
    const { url, secret, ticket } = presented.credentials;
    loop.direct(url, ticket.connection);
    machine.present(secret, ticket.limits, this.#now());
  }

  /** After every input: what the peer waits for goes first, then the page's handlers, then what they made. */
  #pump(): void {
    const parts = this.#parts;
    if (!parts) return;
    parts.loop.flush();
    this.#handleEvents(parts);
    parts.delivery.deliver();
    parts.loop.flush();
  }

  #handleEvents(parts: Parts): void {
    const { machine, presented } = parts;
    let status = this.#status;
    for (let event; (event = machine.pollEvent()); ) {
      if (event.type === 'pong') {
        this.#pings.get(event.nonce)?.resolve(event.roundTrip);
        this.#pings.delete(event.nonce);
      } else if (machine.phase === 'over' && !machine.incarnation && presented.fallBack()) {
        this.#present(parts);
      } else {
        status = statusAfter(event, status, this.#now(), this.#environment.Date.now());
        if (machine.phase === 'over') {
          status = { ...status, unacknowledged: machine.unacknowledgedMessages() };
          this.#retire(parts);
        }
      }
    }
    if (machine.phase !== 'connected') this.#rejectPings();
    this.#attention.watch(!['connected', 'left', 'over'].includes(machine.phase));
    this.#report(statusIn(machine.phase, status, parts.loop.obstacle));
  }

  /** Nothing is to come of this session any more; what has been received is still handed over. */
  #retire({ presented }: Parts): void {
    sharedIn(this.#environment).sessions.delete(presented.own.id);
    this.#watching.abort();
    this.#attention.watch(false);
    this.#rejectPings();
    presented.discard();
  }

  #rejectPings(): void {
    for (const { reject } of this.#pings.values()) reject(noPong());
    this.#pings.clear();
  }

  #report(status: Status): void {
    const before = this.#status;
    this.#status = status;
    if (isNews(status, before)) this.#tell();
  }

  #tell(): void {
    try {
      this.onstatus?.(this.#status);
    } catch (error) {
      this.#environment.console.error('stillhere: onstatus failed; the session goes on.', error);
    }
  }
}

function noPong(): Error {
  return new Error('No pong: there is no connection, or it was lost. The session reconnects by itself.');
}

function bytesOf(data: Data): Uint8Array {
  if ((data as Data | undefined)?.byteLength === undefined) {
    throw new TypeError('send() takes an ArrayBuffer or a typed array; for text: new TextEncoder().encode(text).');
  }
  return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
}
