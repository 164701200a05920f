import type { LaneName } from '../delivery';
import type { Environment } from '../environment';
import type { Data, Session } from '../session';
import type { Status } from '../status';
import type { Bytes } from '../wire';
import { type CallOptions } from './calls';
import type { AnswerOf, AnyName, CallsOf, Contract, EventsOf, Given, MessageOf, NameIn, ObservablesOf, QueryOf, ValueHandler } from './contract';
import type { Observable } from './observable';
import type { Room } from './room';
import { type Codec } from './value';
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
/**
 * A session with messages of several kinds, events, calls and observables. The page at the other
 * end of a Rust function that uses `stillhere-app`.
 */
export declare class AppSession<C = Contract> {
    #private;
    /** The session that carries everything. Its `onmessage` and `onstatus` belong to this layer. */
    readonly raw: Session;
    /** Receives what cannot be decoded. Without it, that goes to the console. */
    onerror: ((error: Error) => void) | null;
    /** Called when `status` changes. */
    onstatus: ((status: Status) => void) | null;
    /** Use `connect` or `attach`. */
    constructor(raw: Session, options: AppOptions<C>, environment: AppEnvironment);
    get id(): string;
    get connection(): string;
    get status(): Status;
    get renew(): (status: Status) => boolean;
    set renew(renew: (status: Status) => boolean);
    /**
     * Receives bytes. In the bulk lane, the next message waits for the promise that it returns. Units
     * wait until one of the hooks is set, or `on`, `handle`, `call` or `observable` is called.
     */
    get onmessage(): BytesHandler | null;
    set onmessage(handler: BytesHandler | null);
    /** Receives text. */
    get ontext(): ((text: string, lane: LaneName) => unknown) | null;
    set ontext(handler: ((text: string, lane: LaneName) => unknown) | null);
    /** Receives the values of `sendJson`, whatever their format. */
    get onjson(): ValueHandler<MessageOf<C>> | null;
    set onjson(handler: ValueHandler<MessageOf<C>> | null);
    /** Sends bytes or text. Throws `OutboxFull`, `TooLarge` or `SessionOver`. */
    send(data: Data | string): void;
    /** Sends bytes or text in the bulk lane, for large transfers. Throws like `send`. */
    sendBulk(data: Data | string): void;
    /** Sends a value. Throws like `send`, and for a value that has no encoding. */
    sendJson(value: MessageOf<C>): void;
    /** Sends an event. Throws like `sendJson`. */
    emit<N extends NameIn<EventsOf<C>>>(name: N, ...value: Given<EventsOf<C>[N]>): void;
    /** Calls `handler` for each event of this name, until the returned function is called. */
    on<N extends NameIn<EventsOf<C>>, T extends EventsOf<C>[N] = EventsOf<C>[N]>(name: N, handler: (value: T) => unknown): () => void;
    /**
     * Calls the server's handler of this name, once over any number of cuts. Rejects with a
     * `CallError`; and like `sendJson` throws, if it cannot be sent.
     */
    call<N extends NameIn<CallsOf<C>>>(name: N, query: QueryOf<CallsOf<C>[N]>, options?: CallOptions): Promise<AnswerOf<CallsOf<C>[N]>>;
    call<A = unknown>(name: AnyName<CallsOf<C>>, query?: unknown, options?: CallOptions): Promise<A>;
    /**
     * Calls a handler that answers with a stream, for `for await`. The items come only as fast as the
     * page takes them, and leaving the loop cancels the call. What the iterator returns at its end is
     * the answer. It rejects as `call` does.
     */
    stream<T = unknown>(name: string, query?: unknown, options?: CallOptions): AsyncIterableIterator<T, unknown>;
    /**
     * Answers the server's calls of this name, until the returned function is called. To reject one,
     * throw a `CallError` with the code `rejected`; anything else that is thrown is a failure.
     */
    handle<N extends NameIn<CallsOf<C>>>(name: N, handler: (query: QueryOf<CallsOf<C>[N]>, context: {
        readonly signal: AbortSignal;
    }) => AnswerOf<CallsOf<C>[N]> | Promise<AnswerOf<CallsOf<C>[N]>>): () => void;
    handle<Q = unknown>(name: AnyName<CallsOf<C>>, handler: (query: Q, context: {
        readonly signal: AbortSignal;
    }) => unknown): () => void;
    /** Returns the observable of this name. `initial` is its value until one of the sides sets it. */
    observable<N extends NameIn<ObservablesOf<C>>>(name: N, initial: ObservablesOf<C>[N]): Observable<ObservablesOf<C>[N]>;
    observable<T>(name: AnyName<ObservablesOf<C>>, initial: T): Observable<T>;
    /** Returns the room of this name. The page is a member if it joins, or the server has it join. */
    room<S = unknown>(name: string): Room<S>;
    /** Calls `watcher` after each change of the status, until the returned function is called. */
    watchStatus(watcher: (status: Status) => void): () => void;
    /** Returns what the server has not acknowledged; see `Session.bufferedAmount`. */
    bufferedAmount(lane?: LaneName): number;
    /** Measures the round trip in milliseconds; see `Session.ping`. */
    ping(): Promise<number>;
    /** Tries to connect now. */
    retry(): void;
    /** Ends the session after the current task; see `Session.close`. */
    close(): void;
}
