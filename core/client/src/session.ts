import type { Access } from './access';
import { Attention } from './attention';
import { type Data, viewOf } from './bytes';
import { sleepAwareClock } from './clock';
import { Code, Reason } from './codes';
import { ConnectionLoop } from './connection';
import { Delivery, type LaneName, type MessageHandler } from './delivery';
import type { Environment, Listenable } from './environment';
import { complain } from './errors';
import { DocumentMachine, SessionOver } from './machine';
import { nameOfCode, nameOfReason } from './names';
import { PresentedTicket } from './presented';
import type { Renewal } from './renewal';
import { sharedIn } from './shared';
import { soon } from './soon';
import { CONNECTING, isNews, isRenewed, type Status, statusAfter, statusIn, statusWith } from './status';
import { type From, isStatic, type OpenTicket, type Ticket } from './ticket';
import type { Lane, Limits } from './wire';

export type { Data } from './bytes';

export interface Options {
  /**
   * Maximum amount that may wait for acknowledgement in each lane: bytes, plus 64 for each message
   * or fragment. Default: 4 MiB.
   */
  outbox?: number;
  /** Base of a relative url in the ticket. Default: the page, as for the `src` of a script. */
  url?: string;
  /**
   * Address that answers a POST with a new ticket as JSON, for when this ticket is no longer good;
   * null forbids new tickets. By default the client fetches the page again, if the ticket is in one
   * of its `data-stillhere` attributes.
   */
  from?: string | null;
  onmessage?: MessageHandler;
  onstatus?: (status: Status) => void;
}

/** The server's default limits, used for messages sent before there is a ticket. */
const LIMITS: Limits = { fragment: 65_536, message: 2 ** 20, inflated: 2 ** 23, window: 2 ** 20, bulkWindow: 262_400 };

/** The parts of a session that is not over. */
interface Parts {
  readonly machine: DocumentMachine;
  readonly presented: PresentedTicket;
  readonly loop: ConnectionLoop;
  readonly delivery: Delivery;
}

/** What a client can do beyond WebSockets and the ticket that it has. */
export interface Features {
  access(environment: Environment): Access;
  /** Absent if there are no new tickets. */
  renewal?(ticket: Ticket | From, from: string | null | undefined, base: string, now: () => number, environment: Environment): Renewal;
}

/** Returns the window's session of this ticket, or a new one if there is none. */
export function sessionFor(environment: Environment, ticket: Ticket | From, options: Options, features: Features): Session {
  const existing = sharedIn(environment).sessions.get((ticket as Partial<OpenTicket> | undefined)?.id ?? '');
  return existing ? existing(options) : new Session(ticket, options, environment, features);
}

/** The page's end of a session. It outlives its connections: messages arrive once and in order. */
export class Session {
  /** Called when `status` changes. */
  onstatus: ((status: Status) => void) | null;
  /**
   * Decides whether a new session replaces one that would be `refused` or `ended` with this status.
   */
  renew: (status: Status) => boolean = isRenewed;
  readonly #environment: Environment;
  readonly #options: Options;
  readonly #now: () => number;
  /** Removes the listeners for the page's events when aborted. */
  readonly #watching = new AbortController();
  /** Watches for user activity while there is no connection. */
  readonly #attention: Attention;
  readonly #pings = new Map<number, { resolve(roundTrip: number): void; reject(error: Error): void }>();
  #renewal: Renewal | undefined;
  readonly #features: Features;
  /** Key under which other callers of `connect` find this session. */
  readonly #key: string = '';
  #status = CONNECTING;
  /** Number of unacknowledged messages of a session that is being replaced. */
  #lost: number | undefined;
  /** Number of callers of `connect` that have not called `close`. */
  #holders = 1;
  /** Absent if the server had no room for the session, and after the page has closed it. */
  #parts: Parts | undefined;

  /** Use `connect`; only `connectIn` and tests call this. */
  constructor(ticket: Ticket | From, options: Options, environment: Environment, features: Features) {
    this.onstatus = options.onstatus ?? null;
    this.#options = options;
    this.#environment = environment;
    this.#now = sleepAwareClock(environment);
    this.#attention = new Attention(environment, () => this.#wake());
    const base = options.url ?? environment.document.baseURI;
    this.#features = features;
    const { from = options.from } = SLIM ? {} : { ...(ticket as Partial<From> | undefined) };
    if (!SLIM) this.#renewal = features.renewal?.(ticket, from, base, this.#now, environment);
    const because = statusWith(ticket, environment.Date.now());
    if (because && (SLIM || isStatic(ticket) || !this.#renewal?.isPossible)) {
      this.#status = because;
      queueMicrotask(() => this.#tell()); // lets the caller set `onstatus` first
      return;
    }
    const own = because ? undefined : (ticket as OpenTicket);
    const presented = new PresentedTicket(base, environment);
    if (!because) presented.take(ticket as OpenTicket);
    this.#parts = this.#assemble(presented, SLIM ? own!.limits : (own?.limits ?? LIMITS));
    if (own) sharedIn(environment).sessions.set((this.#key = own.id), (options) => this.#join(options));
    void this.#begin(this.#parts, because);
  }

  /**
   * Id of the session in use, which after a reload may be that of the previous page. Empty if the
   * server had no room, and once closed.
   */
  get id(): string {
    return this.#parts?.presented.chosen?.ticket.id ?? '';
  }

  /**
   * Kind of the connection in use: `websocket`, `streamed` or `polled` where WebSockets are
   * blocked, or a registered one.
   */
  get connection(): string {
    return this.#parts?.loop.access.kind ?? '';
  }

  get status(): Status {
    return this.#status;
  }

  /**
   * Receives each message. Messages wait while there is no handler. Those received before the end
   * are still delivered after it.
   */
  get onmessage(): MessageHandler | null {
    return this.#parts?.delivery.handler ?? null;
  }

  set onmessage(handler: MessageHandler | null) {
    if (this.#parts) this.#parts.delivery.handler = handler;
  }

  /**
   * Sends a message ahead of all bulk messages. Throws `OutboxFull`, `TooLarge` or `SessionOver`.
   */
  send(data: Data): void {
    this.#send(0, data);
  }

  /** Sends a message in the bulk lane, for large transfers. Throws like `send`. */
  sendBulk(data: Data): void {
    this.#send(1, data);
  }

  /**
   * Returns the amount that the server has not acknowledged, in one lane or both: bytes, plus 64
   * for each message or fragment.
   */
  bufferedAmount(lane?: LaneName): number {
    const machine = this.#parts?.machine;
    if (!machine) return 0;
    return (lane === 'bulk' ? 0 : machine.bufferedCharge(0)) + (lane === 'interactive' ? 0 : machine.bufferedCharge(1));
  }

  /**
   * Measures the round trip in milliseconds. Rejects if there is no connection, or if it is lost
   * before the answer.
   */
  ping(): Promise<number> {
    return new Promise((resolve, reject) => {
      const parts = this.#parts;
      if (parts?.machine.phase !== 'connected') return reject(noPong());
      this.#pings.set(parts.machine.ping(this.#now()), { resolve, reject });
      parts.loop.flush();
    });
  }

  /**
   * Tries to connect now, even if the server or a proxy asked the page to wait. A session that is
   * over stays over.
   */
  retry(): void {
    const parts = this.#parts;
    if (!parts) return;
    this.#renewal?.wake();
    parts.loop.access.reset(this.#now(), true);
    parts.machine.handleRetry(this.#now());
    this.#pump();
  }

  /**
   * Ends the session after the current task, once each caller of `connect` has closed it. Code that
   * closes and connects again in one task keeps it. Unacknowledged messages may be lost: if they
   * matter, wait until `bufferedAmount()` is 0.
   */
  close(): void {
    if (!this.#holders || --this.#holders) return;
    this.#parts?.delivery.stop();
    soon(this.#environment, () => this.#holders || this.#end());
  }

  /** Shares the session with another caller of `connect`. */
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
    if (isOver && this.#lost === undefined) return;
    const unacknowledged = this.#lost ?? machine.unacknowledgedMessages();
    const reason = nameOfReason(Reason.Closed);
    this.#report({ ...this.#status, state: 'ended', code: 1000, reason, text: 'closed by this page', retryAt: null, unacknowledged });
  }

  #send(lane: Lane, data: Data): void {
    const bytes = viewOf(data, 'an ArrayBuffer or a typed array; for text: new TextEncoder().encode(text)');
    const parts = this.#parts;
    if (!parts || !this.#holders || this.#lost !== undefined || parts.machine.phase === 'over') {
      throw new SessionOver(`The session is over (${this.#status.reason || 'Closed'}): ${this.#lost === undefined ? 'reload the page for' : 'wait for'} a new one.`);
    }
    const { machine, loop } = parts;
    machine.send(lane, bytes, this.#now());
    loop.flush();
  }

  #assemble(presented: PresentedTicket, limits: Limits): Parts {
    const environment = this.#environment;
    const now = this.#now;
    const pump = (): void => this.#pump();
    const machine = new DocumentMachine({
      ...this.#options,
      secret: SLIM ? presented.chosen!.secret : (presented.chosen?.secret ?? new Uint8Array()),
      document: environment.crypto.getRandomValues(new Uint8Array(16)),
      limits,
      random: environment.Math.random,
      // With restore, a page takes over the session that another document had. Without it, the page
      // came from a cache, and so did its ticket.
      declines: () =>
        !SLIM &&
        presented.chosen?.ticket.restore === undefined && this.#isRenewable({ ...this.#status, code: Code.Duplicate, reason: nameOfCode(Code.Duplicate) }),
    });
    const loop = new ConnectionLoop(machine, this.#features.access(environment), now, environment, pump);
    const delivery = new Delivery(machine, limits.inflated, now, environment, pump);
    delivery.handler = this.onmessage ?? this.#options.onmessage ?? null;
    return { machine, presented, loop, delivery };
  }

  /** Starts the session. `because` says why there is no ticket yet. */
  async #begin(parts: Parts, because: Status | undefined): Promise<void> {
    const { machine, presented } = parts;
    const { document } = this.#environment;
    if (document.prerendering) await new Promise((activated) => document.addEventListener('prerenderingchange', activated, { once: true }));
    await (SLIM || because ? undefined : presented.choose());
    if (!this.#holders) await new Promise<void>((over) => soon(this.#environment, over)); // closed in the same task
    if (!this.#parts) return presented.discard(); // closed meanwhile
    this.#watchPage();
    machine.handleHidden(document.hidden, this.#now());
    if (SLIM || !because) return this.#start(parts);
    if (because.code) {
      if (!this.#isRenewable(because)) return this.#giveUp(parts, because);
      this.#report({ ...because, state: 'connecting' });
    }
    await this.#renew(because);
  }

  #start(parts: Parts): void {
    this.#present(parts);
    parts.machine.start(this.#now());
    this.#pump();
  }

  #watchPage(): void {
    const page = this.#environment;
    const { document } = page;
    const { signal } = this.#watching;
    const on = (target: Listenable, type: string, handle: (parts: Parts, now: number, event: Event) => void): void => {
      const listener = (event: Event): void => {
        if (this.#parts) handle(this.#parts, this.#now(), event);
        this.#pump();
      };
      target.addEventListener(type, listener, { signal });
    };
    const wake = ({ machine }: Parts, now: number): void => {
      machine.handleWake(now);
      this.#renewal?.wake();
    };
    on(document, 'visibilitychange', ({ machine }, now) => {
      machine.handleHidden(document.hidden, now);
      if (!SLIM && !document.hidden) this.#renewal?.wake();
    });
    on(document, 'resume', wake);
    on(page, 'online', (parts, now) => {
      parts.loop.access.reset(now, false);
      wake(parts, now);
    });
    on(page, 'pagehide', ({ machine, presented }, now) => {
      if (!this.#holders) return this.#end();
      machine.handleLeave(now);
      if (!SLIM) presented.leave();
    });
    on(page, 'pageshow', (parts, now, event) => {
      if (!(event as PageTransitionEvent).persisted) return;
      if (!SLIM) parts.presented.hold();
      wake(parts, now);
    });
  }

  /** Retries because the user is active. */
  #wake(): void {
    this.#renewal?.wake();
    this.#parts?.machine.handleWake(this.#now());
    this.#pump();
  }

  #present({ machine, presented, loop, delivery }: Parts): void {
    const { url, secret, ticket } = presented.chosen!;
    loop.direct(url, ticket.connection);
    if (SLIM) return; // The machine was made with this ticket.
    delivery.inflated = ticket.limits.inflated;
    machine.present(secret, ticket.limits, this.#now());
  }

  #isRenewable(status: Status): boolean {
    try {
      return !!this.#holders && !!this.#renewal?.isPossible && this.renew(status);
    } catch (error) {
      this.#environment.console.error('stillhere: renew failed; there is no new session.', error);
      return false;
    }
  }

  /**
   * Gets the first ticket or a replacement. If there is none, the session ends with the status
   * `because`.
   */
  async #renew(because: Status): Promise<void> {
    await undefined; // The page learns of the end first.
    const { presented } = this.#parts!;
    presented.discard();
    const { Date } = this.#environment;
    const delay = because.retryAt ? because.retryAt - Date.now() : 0;
    let answer = await this.#renewal!.obtain(delay, (retryAt, hindrance) => this.#report({ ...this.#status, text: hindrance || because.text, retryAt }));
    const parts = this.#parts;
    if (!parts) return; // closed meanwhile
    if (typeof answer !== 'string') {
      try {
        presented.take(answer);
      } catch (error) {
        answer = (error as Error).message;
      }
    }
    if (typeof answer === 'string') return this.#giveUp(parts, { ...because, text: answer });
    await presented.choose();
    if (!this.#parts) return presented.discard(); // closed meanwhile
    this.#parts = parts.machine.incarnation ? this.#succeed(parts, answer.limits) : parts;
    this.#start(this.#parts);
  }

  #giveUp(parts: Parts, status: Status): void {
    parts.machine.giveUp();
    this.#report(this.#conclude(parts, status));
  }

  /** Assembles a session that replaces another. */
  #succeed({ presented, delivery }: Parts, limits: Limits): Parts {
    const parts = this.#assemble(presented, limits);
    delivery.stop();
    parts.machine.handleHidden(this.#environment.document.hidden, this.#now());
    return parts;
  }

  /**
   * Runs after every input: sends what is due, calls the page's handlers, then sends what they
   * produced.
   */
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
      } else if (!SLIM && machine.phase === 'over' && !machine.incarnation && presented.fallBack()) {
        this.#present(parts);
      } else {
        status = statusAfter(event, status, this.#now(), this.#environment.Date.now());
        if (!SLIM && event.type === 'welcomed') status = this.#welcome(status);
        if (machine.phase === 'over') {
          status = { ...status, unacknowledged: this.#lost ?? machine.unacknowledgedMessages() };
          status = !SLIM && this.#isRenewable(status) ? this.#give(parts, status) : this.#conclude(parts, status);
        }
      }
    }
    if (machine.phase !== 'connected') this.#rejectPings();
    this.#attention.watch(!['connected', 'left', 'over'].includes(machine.phase));
    this.#report(statusIn(machine.phase, status, parts.loop.access.obstacle));
  }

  #welcome(status: Status): Status {
    const lost = this.#lost;
    this.#lost = undefined;
    this.#renewal?.succeed();
    return lost === undefined ? status : { ...status, outcome: 'renewed', unacknowledged: lost };
  }

  /**
   * Ends a session that will be replaced. Messages sent meanwhile go to the replacement only if the
   * page had no session before.
   */
  #give({ machine }: Parts, status: Status): Status {
    if (machine.incarnation) this.#lost = status.unacknowledged;
    else machine.standBy();
    void this.#renew(status);
    return { ...status, state: status.outcome ? 'reconnecting' : 'connecting', unacknowledged: this.#lost ?? 0 };
  }

  #conclude(parts: Parts, status: Status): Status {
    if (!SLIM) this.#lost = undefined;
    this.#retire(parts);
    return { ...status, text: status.text || (isRenewed(status) ? 'reload the page for a new session' : '') };
  }

  /** Releases the resources of the session. Received messages are still delivered. */
  #retire({ presented }: Parts): void {
    sharedIn(this.#environment).sessions.delete(this.#key);
    this.#watching.abort();
    this.#renewal?.stop();
    this.#attention.watch(false);
    this.#rejectPings();
    presented.discard();
    if (!SLIM) presented.free();
  }

  #rejectPings(): void {
    for (const { reject } of this.#pings.values()) reject(noPong());
    this.#pings.clear();
  }

  #report(status: Status): void {
    const before = this.#status;
    this.#status = status;
    if (status !== before && isNews(status, before)) this.#tell();
  }

  #tell(): void {
    try {
      this.onstatus?.(this.#status);
    } catch (error) {
      complain(this.#environment, 'onstatus', error);
    }
  }
}

function noPong(): Error {
  return new Error('No pong: there is no connection, or it was lost. The session reconnects by itself.');
}
