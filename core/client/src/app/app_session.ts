import type { LaneName } from '../delivery';
import type { Environment } from '../environment';
import type { Data, Session } from '../session';
import type { Status } from '../status';
import type { Bytes } from '../wire';
import { type CallOptions, Calls } from './calls';
import type { AnswerOf, AnyName, CallsOf, Contract, EventsOf, Given, MessageOf, NameIn, ObservablesOf, QueryOf, ValueHandler } from './contract';
import { type CallHandler, Handlers } from './handlers';
import { NewestValues } from './newest';
import type { Observable } from './observable';
import { Observables } from './observables';
import { Outgoing } from './outgoing';
import { PageErrors } from './page_errors';
import { Rate } from './rate';
import type { Room } from './room';
import { Rooms } from './rooms';
import { decodeText, decodeUnit, encodeText, Kind, type Unit } from './unit';
import { type Codec, decodeValue } from './value';

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

/** The parts of a browser that the layer uses. */
export type AppEnvironment = Pick<Environment, 'addEventListener' | 'setTimeout' | 'clearTimeout' | 'performance' | 'console'>;

type Listener = (value: never) => unknown;

/** Lines in the console in each minute. */
const COMPLAINTS = 10;

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
  readonly #environment: AppEnvironment;
  readonly #outgoing: Outgoing;
  readonly #calls: Calls;
  readonly #handlers: Handlers;
  readonly #newest: NewestValues;
  readonly #observables: Observables;
  readonly #rooms: Rooms;
  readonly #errors: PageErrors | undefined;
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #watchers = new Set<(status: Status) => void>();
  readonly #rate: Rate;
  /** Removes the listeners for the page's errors when aborted. */
  readonly #watching = new AbortController();
  #onmessage: BytesHandler | null = null;
  #ontext: AppOptions<C>['ontext'] | null = null;
  #onjson: AppOptions<C>['onjson'] | null = null;

  /** Use `connect` or `attach`. */
  constructor(raw: Session, options: AppOptions<C>, environment: AppEnvironment) {
    this.raw = raw;
    this.#environment = environment;
    this.onerror = options.onerror ?? null;
    this.onstatus = options.onstatus ?? raw.onstatus;
    this.#outgoing = new Outgoing(raw, options.codec);
    const { waitingCalls: waiting = 1024, runningCalls: running = 16 } = options;
    const failed = (source: string, error: unknown): void => this.#failed(source, error);
    this.#calls = new Calls(this.#outgoing, waiting, environment);
    this.#handlers = new Handlers(this.#outgoing, { running, waiting }, environment, failed);
    this.#newest = new NewestValues(raw, this.#outgoing, environment, failed);
    this.#observables = new Observables(raw, this.#newest, environment, failed);
    this.#rooms = new Rooms({ outgoing: this.#outgoing, newest: this.#newest, failed });
    this.#rate = new Rate(COMPLAINTS, () => environment.performance.now());
    if (options.reportErrors !== false) this.#errors = new PageErrors(this.#outgoing, environment);
    this.#errors?.watch(environment, this.#watching.signal);
    raw.onstatus = (status) => this.#notice(status);
    const { onmessage = raw.onmessage } = options;
    if (onmessage) this.onmessage = onmessage;
    if (options.ontext) this.ontext = options.ontext;
    if (options.onjson) this.onjson = options.onjson;
  }

  get id(): string {
    return this.raw.id;
  }

  get connection(): string {
    return this.raw.connection;
  }

  get status(): Status {
    return this.raw.status;
  }

  get renew(): (status: Status) => boolean {
    return this.raw.renew;
  }

  set renew(renew: (status: Status) => boolean) {
    this.raw.renew = renew;
  }

  /**
   * Receives bytes. In the bulk lane, the next message waits for the promise that it returns. Units
   * wait until one of the hooks is set, or `on`, `handle`, `call` or `observable` is called.
   */
  get onmessage(): BytesHandler | null {
    return this.#onmessage;
  }

  set onmessage(handler: BytesHandler | null) {
    this.#onmessage = handler;
    this.#open();
  }

  /** Receives text. */
  get ontext(): ((text: string, lane: LaneName) => unknown) | null {
    return this.#ontext ?? null;
  }

  set ontext(handler: ((text: string, lane: LaneName) => unknown) | null) {
    this.#ontext = handler;
    this.#open();
  }

  /** Receives the values of `sendJson`, whatever their format. */
  get onjson(): ValueHandler<MessageOf<C>> | null {
    return this.#onjson ?? null;
  }

  set onjson(handler: ValueHandler<MessageOf<C>> | null) {
    this.#onjson = handler;
    this.#open();
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
    this.#outgoing.value(Kind.Message, {}, value);
  }

  /** Sends an event. Throws like `sendJson`. */
  emit<N extends NameIn<EventsOf<C>>>(name: N, ...value: Given<EventsOf<C>[N]>): void {
    this.#outgoing.value(Kind.Event, { name }, value[0]);
  }

  /** Calls `handler` for each event of this name, until the returned function is called. */
  on<N extends NameIn<EventsOf<C>>, T extends EventsOf<C>[N] = EventsOf<C>[N]>(name: N, handler: (value: T) => unknown): () => void {
    const own = (value: T): unknown => handler(value);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(own as Listener));
    this.#open();
    return () => void listeners.delete(own as Listener);
  }

  /**
   * Calls the server's handler of this name, once over any number of cuts. Rejects with a
   * `CallError`; and like `sendJson` throws, if it cannot be sent.
   */
  call<N extends NameIn<CallsOf<C>>>(name: N, query: QueryOf<CallsOf<C>[N]>, options?: CallOptions): Promise<AnswerOf<CallsOf<C>[N]>>;
  call<A = unknown>(name: AnyName<CallsOf<C>>, query?: unknown, options?: CallOptions): Promise<A>;
  call(name: string, query?: unknown, options: CallOptions = {}): Promise<unknown> {
    this.#open();
    return this.#calls.call(name, query, options);
  }

  /**
   * Calls a handler that answers with a stream, for `for await`. The items come only as fast as the
   * page takes them, and leaving the loop cancels the call. What the iterator returns at its end is
   * the answer. It rejects as `call` does.
   */
  stream<T = unknown>(name: string, query?: unknown, options: CallOptions = {}): AsyncIterableIterator<T, unknown> {
    this.#open();
    return this.#calls.stream(name, query, options) as AsyncIterableIterator<T, unknown>;
  }

  /**
   * Answers the server's calls of this name, until the returned function is called. To reject one,
   * throw a `CallError` with the code `rejected`; anything else that is thrown is a failure.
   */
  handle<N extends NameIn<CallsOf<C>>>(
    name: N,
    handler: (query: QueryOf<CallsOf<C>[N]>, context: { readonly signal: AbortSignal }) => AnswerOf<CallsOf<C>[N]> | Promise<AnswerOf<CallsOf<C>[N]>>,
  ): () => void;
  handle<Q = unknown>(name: AnyName<CallsOf<C>>, handler: (query: Q, context: { readonly signal: AbortSignal }) => unknown): () => void;
  handle(name: string, handler: (query: never, context: { readonly signal: AbortSignal }) => unknown): () => void {
    const remove = this.#handlers.set(name, handler as CallHandler);
    this.#open();
    return remove;
  }

  /** Returns the observable of this name. `initial` is its value until one of the sides sets it. */
  observable<N extends NameIn<ObservablesOf<C>>>(name: N, initial: ObservablesOf<C>[N]): Observable<ObservablesOf<C>[N]>;
  observable<T>(name: AnyName<ObservablesOf<C>>, initial: T): Observable<T>;
  observable(name: string, initial: unknown): Observable<unknown> {
    const observable = this.#observables.get(name, initial);
    this.#open();
    return observable;
  }

  /** Returns the room of this name. The page is a member if it joins, or the server has it join. */
  room<S = unknown>(name: string): Room<S> {
    const room = this.#rooms.get<S>(name);
    this.#open();
    return room;
  }

  /** Calls `watcher` after each change of the status, until the returned function is called. */
  watchStatus(watcher: (status: Status) => void): () => void {
    const own = (status: Status): void => watcher(status);
    this.#watchers.add(own);
    return () => void this.#watchers.delete(own);
  }

  /** Returns what the server has not acknowledged; see `Session.bufferedAmount`. */
  bufferedAmount(lane?: LaneName): number {
    return this.raw.bufferedAmount(lane);
  }

  /** Measures the round trip in milliseconds; see `Session.ping`. */
  ping(): Promise<number> {
    return this.raw.ping();
  }

  /** Tries to connect now. */
  retry(): void {
    this.raw.retry();
  }

  /** Ends the session after the current task; see `Session.close`. */
  close(): void {
    this.raw.close();
  }

  #send(data: Data | string, lane: LaneName): void {
    if (typeof data === 'string') return this.#outgoing.content(Kind.Text, encodeText(data), lane);
    if ((data as Data | undefined)?.byteLength === undefined) throw new TypeError('send() takes text, an ArrayBuffer or a typed array; for any other value: sendJson(value).');
    const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    this.#outgoing.content(Kind.Bytes, bytes, lane);
  }

  /** Lets units in, once the page has said what it wants of them. */
  #open(): void {
    if (this.raw.onmessage !== this.#receive) this.raw.onmessage = this.#receive;
  }

  readonly #receive = (bytes: Bytes, lane: LaneName): unknown => {
    try {
      const unit = decodeUnit(bytes);
      this.#outgoing.adopt(unit);
      return this.#dispatch(unit, lane);
    } catch (error) {
      this.#tellError(error as Error);
      return;
    }
  };

  #dispatch(unit: Unit, lane: LaneName): unknown {
    const { kind, bytes, at, id, name } = unit;
    switch (kind) {
      case Kind.Bytes:
        return this.#hand('onmessage', this.#onmessage, bytes.slice(at), lane);
      case Kind.Text:
        return this.#hand('ontext', this.#ontext, decodeText(bytes, at), lane);
      case Kind.Message:
        return this.#hand('onjson', this.#onjson, decodeValue(bytes, at) as MessageOf<C>, lane);
      case Kind.Event: {
        const listeners = this.#listeners.get(name);
        if (!listeners?.size) return;
        const value = decodeValue(bytes, at);
        for (const listener of [...listeners]) this.#run(`event ${name}`, () => listener(value as never));
        return;
      }
      case Kind.Call:
        return this.#handlers.receive(unit);
      case Kind.Answer:
        return this.#calls.answer(unit);
      case Kind.Failure:
        return this.#calls.fail(unit);
      case Kind.Cancel:
        return this.#handlers.cancel(id);
      case Kind.Set:
        return this.#observables.receive(unit);
      case Kind.Item:
        return this.#calls.item(unit);
      case Kind.More:
        return this.#handlers.more(unit);
      case Kind.Room:
      case Kind.RoomEvent:
        return this.#rooms.receive(unit);
      default:
        return;
    }
  }

  /** Hands a message to its hook. Only the bulk lane waits for it: answers come in the other. */
  #hand<T>(hook: string, handler: ((value: T, lane: LaneName) => unknown) | null | undefined, value: T, lane: LaneName): unknown {
    if (!handler) return this.#complain(`a message was dropped, because ${hook} is not set`);
    const returned = this.#run(hook, () => handler(value, lane));
    return lane === 'bulk' ? returned : undefined;
  }

  /** Runs a handler of the application. The result never rejects. */
  #run(source: string, run: () => unknown): unknown {
    try {
      const returned = run();
      const isPromise = typeof (returned as PromiseLike<unknown> | null | undefined)?.then === 'function';
      return isPromise ? (returned as PromiseLike<unknown>).then(undefined, (error: unknown) => this.#failed(source, error)) : undefined;
    } catch (error) {
      this.#failed(source, error);
      return;
    }
  }

  #failed(source: string, error: unknown): void {
    this.#complain(`${source}: the handler failed; the session continues`, error);
    this.#errors?.report(source, error);
  }

  #tellError(error: Error): void {
    if (!this.onerror) return this.#complain('what the server sent was skipped', error);
    try {
      this.onerror(error);
    } catch (thrown) {
      this.#failed('onerror', thrown);
    }
  }

  #complain(text: string, ...error: unknown[]): void {
    if (this.#rate.take()) this.#environment.console.error(`stillhere: ${text}.`, ...error);
  }

  #notice(status: Status): void {
    const { state, outcome, reason } = status;
    const isOver = state === 'ended' || state === 'refused';
    if (isOver) {
      this.#watching.abort();
      this.#newest.drop();
      this.#rooms.reset(true);
      this.#handlers.end();
      // The last messages of a session are delivered after the news of its end.
      this.#environment.setTimeout(() => this.#calls.end(`The session is over (${reason}).`), 0);
    } else if (state === 'connected' && outcome === 'renewed') {
      this.#newest.drop();
      this.#observables.reset();
      this.#rooms.reset(false);
      this.#handlers.end();
      this.#calls.end('The session was replaced by a new one.');
    }
    this.#newest.flush();
    for (const watcher of [...this.#watchers]) this.#run('watchStatus', () => watcher(status));
    if (this.onstatus) this.#run('onstatus', () => this.onstatus?.(status));
  }
}
