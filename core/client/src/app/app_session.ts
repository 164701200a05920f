import type { LaneName } from '../delivery';
import { type Data, viewOf } from '../bytes';
import type { Session } from '../session';
import type { Status } from '../status';
import type { Bytes } from '../wire';
import type { CallMethods, HandlerMethods, ObservableMethods, RoomMethods, StreamMethods } from './methods';
import type { Contract, EventsOf, Given, MessageOf, NameIn, ValueHandler } from './contract';
import { type AppEnvironment, Host } from './host';
import { Listeners } from './listeners';
import { lacking, type Part, type Piece } from './piece';
import { Rate } from './rate';
import { decodeText, decodeUnit, encodeText, Kind, type Unit } from './unit';
import type { Codec } from './value';

export interface AppOptions<C = Contract> {
  /**
   * Format of the values that the page sends. It understands both. Default: `messagepack` once the
   * server has sent that, and `json` before.
   */
  codec?: Codec;
  /** Reports the page's uncaught errors and failing handlers to the server. Default: true. */
  reportErrors?: boolean;
  /** Handlers of calls that run at a time. Default: 16. */
  runningCalls?: number;
  /** Calls that may wait, in each direction. Default: 1,024. */
  waitingCalls?: number;
  onmessage?: BytesHandler;
  ontext?: (text: string, lane: LaneName) => unknown;
  onjson?: ValueHandler<MessageOf<C>>;
  onerror?: (error: Error) => void;
  onstatus?: (status: Status) => void;
}

export type BytesHandler = (data: Bytes, lane: LaneName) => unknown;

/** Lines in the console in each minute. */
const COMPLAINTS = 10;

/** The methods that the pieces add. */
export interface AppSession<C = Contract> extends CallMethods<C>, StreamMethods, HandlerMethods<C>, ObservableMethods<C>, RoomMethods {}

/**
 * A session with messages of several kinds, events, calls and observables. The page at the other
 * end of a Rust function that uses `stillhere-app`.
 */
export class AppSession<C = Contract> {
  /** The session that carries everything. Its `onmessage` and `onstatus` belong to this layer. */
  readonly raw: Session;
  /** Receives what cannot be decoded. Without it, that goes to the console. */
  onerror: ((error: Error) => void) | null;
  /** Called when `status` changes. */
  onstatus: ((status: Status) => void) | null;
  /**
   * Receives bytes. In the bulk lane, the next message waits for the promise that it returns. Units
   * wait until one of the hooks is set, or `on`, `handle`, `call` or `observable` is called.
   */
  declare onmessage: BytesHandler | null;
  /** Receives text. */
  declare ontext: ((text: string, lane: LaneName) => unknown) | null;
  /** Receives the values of `sendJson`, whatever their format. */
  declare onjson: ValueHandler<MessageOf<C>> | null;
  declare readonly id: string;
  declare readonly connection: string;
  declare readonly status: Status;
  declare renew: (status: Status) => boolean;
  /** Returns what the server has not acknowledged; see `Session.bufferedAmount`. */
  declare readonly bufferedAmount: (lane?: LaneName) => number;
  /** Measures the round trip in milliseconds; see `Session.ping`. */
  declare readonly ping: () => Promise<number>;
  /** Tries to connect now. */
  declare readonly retry: () => void;
  /** Ends the session after the current task; see `Session.close`. */
  declare readonly close: () => void;
  readonly #host: Host;
  readonly #parts: readonly Part[];
  readonly #listeners: Listeners<(value: never) => unknown>;
  readonly #watchers: Listeners<(status: Status) => void>;
  readonly #rate: Rate;
  /** What handles messages, by the names of the hooks. */
  readonly #hooks = new Map<string, (value: never, lane: LaneName) => unknown>();

  /** Use `connect`, `attach` or `attachOnly`. */
  constructor(raw: Session, options: AppOptions<C>, environment: AppEnvironment, pieces: readonly Piece[]) {
    const host = new Host(raw, options as AppOptions<never>, environment, (source, error) => this.#failed(source, error));
    this.raw = raw;
    this.#host = host;
    this.#rate = new Rate(COMPLAINTS, environment);
    this.#listeners = new Listeners(host);
    this.#watchers = new Listeners(host);
    this.#parts = pieces.map((piece) => piece(host));
    const methods = this.#parts.flatMap(({ methods }) => Object.entries(methods ?? {}));
    for (const [name, method] of methods) Object.assign(this, { [name]: (...values: never[]) => (this.#open(), method(...values)) });
    for (const name of ['bufferedAmount', 'ping', 'retry', 'close'] as const) Object.assign(this, { [name]: raw[name].bind(raw) });
    for (const name of ['id', 'connection', 'status', 'renew'] as const) {
      Object.defineProperty(this, name, { get: () => raw[name], set: (value) => Object.assign(raw, { [name]: value }) });
    }
    for (const name of ['onmessage', 'ontext', 'onjson']) {
      Object.defineProperty(this, name, { get: () => this.#hooks.get(name) ?? null, set: (handler) => (this.#hooks.set(name, handler), this.#open()) });
    }
    this.onerror = null;
    this.onstatus = raw.onstatus;
    raw.onstatus = (status) => this.#notice(status);
    if (raw.onmessage) this.onmessage = raw.onmessage;
    this.adopt(options);
  }

  /** Uses those hooks that the options have. Internal. */
  adopt(options: AppOptions<C>): void {
    for (const name of ['onmessage', 'ontext', 'onjson', 'onerror', 'onstatus'] as const) {
      if (options[name]) Object.assign(this, { [name]: options[name] });
    }
  }

  /** Sends bytes or text. Throws `OutboxFull`, `TooLarge` or `SessionOver`. */
  send(data: Data | string): void {
    this.#send(data, 'interactive');
  }

  /** Sends bytes or text in the bulk lane, for large transfers. Throws like `send`. */
  sendBulk(data: Data | string): void {
    this.#send(data, 'bulk');
  }

  /** Sends a value. Throws like `send`, and for a value that has no encoding. */
  sendJson(value: MessageOf<C>): void {
    this.#host.put(Kind.Message, {}, value);
  }

  /** Sends an event. Throws like `sendJson`. */
  emit<N extends NameIn<EventsOf<C>>>(name: N, ...value: Given<EventsOf<C>[N]>): void {
    this.#host.put(Kind.Event, { name }, value[0]);
  }

  /** Calls `handler` for each event of this name, until the returned function is called. */
  on<N extends NameIn<EventsOf<C>>, T extends EventsOf<C>[N] = EventsOf<C>[N]>(name: N, handler: (value: T) => unknown): () => void {
    this.#open();
    return this.#listeners.add(name, handler as (value: never) => unknown);
  }

  /** Calls `watcher` after each change of the status, until the returned function is called. */
  watchStatus(watcher: (status: Status) => void): () => void {
    return this.#watchers.add('', watcher);
  }

  #send(data: Data | string, lane: LaneName): void {
    if (typeof data === 'string') this.#host.content(Kind.Text, {}, encodeText(data), lane);
    else this.#host.content(Kind.Bytes, {}, viewOf(data, 'text, an ArrayBuffer or a typed array; for any other value: sendJson(value)'), lane);
  }

  /** Lets units in, once the page has said what it wants of them. */
  #open(): void {
    if (this.raw.onmessage !== this.#receive) this.raw.onmessage = this.#receive;
  }

  readonly #receive = (bytes: Bytes, lane: LaneName): unknown => {
    try {
      const unit = decodeUnit(bytes);
      const { kind } = unit;
      if (kind >= Kind.Message && kind !== Kind.Failure) this.#host.formats.adopt(unit);
      return this.#dispatch(unit, lane);
    } catch (error) {
      return this.#tellError(error as Error);
    }
  };

  #dispatch(unit: Unit, lane: LaneName): unknown {
    const { kind, bytes, at, id, name } = unit;
    const { formats } = this.#host;
    switch (kind) {
      case Kind.Bytes:
        return this.#hand('onmessage', bytes.slice(at), lane);
      case Kind.Text:
        return this.#hand('ontext', decodeText(bytes, at), lane);
      case Kind.Message:
        return this.#hand('onjson', formats.decode(unit), lane);
      case Kind.Event:
        if (this.#listeners.has(name)) this.#listeners.tell(`event ${name}`, name, formats.decode(unit) as never);
        return;
    }
    const part = this.#parts.find(({ accepted }) => accepted?.includes(kind));
    if (part) return part.receive!(unit);
    // Other kinds belong to calls, which an earlier document may have made.
    if (kind === Kind.Set) lacking('observables');
    if (kind >= Kind.Room) lacking('rooms');
    if (kind !== Kind.Call) return;
    this.#host.refuse(id, 'missing', 'The page has no handlers.');
    lacking('handlers');
  }

  /** Hands a message to its hook. Only the bulk lane waits for it: answers come in the other. */
  #hand(hook: string, value: unknown, lane: LaneName): unknown {
    const handler = this.#hooks.get(hook);
    if (!handler) return this.#complain(`a message was dropped, because ${hook} is not set`);
    const returned = this.#host.run(hook, () => handler(value as never, lane));
    return lane === 'bulk' ? returned : undefined;
  }

  #failed(source: string, error: unknown): void {
    this.#complain(`${source}: the handler failed; the session continues`, error);
    for (const part of this.#parts) part.report?.(source, error);
  }

  #tellError(error: Error): void {
    if (this.onerror) this.#host.run('onerror', () => this.onerror?.(error));
    else this.#complain('what the server sent was skipped', error);
  }

  #complain(text: string, ...error: unknown[]): void {
    if (this.#rate.take()) this.#host.environment.console.error(`stillhere: ${text}.`, ...error);
  }

  #notice(status: Status): void {
    const { state, outcome, reason } = status;
    const isOver = state === 'ended' || state === 'refused';
    const isRenewed = state === 'connected' && outcome === 'renewed';
    for (const part of this.#parts) {
      if (isOver || isRenewed) part.reset?.(isOver, isOver ? `The session is over (${reason}).` : 'The session was replaced by a new one.');
      part.flush?.();
    }
    this.#watchers.tell('watchStatus', '', status);
    if (this.onstatus) this.#host.run('onstatus', () => this.onstatus?.(status));
  }
}
