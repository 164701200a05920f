import type { LaneName } from '../delivery';
import { type Data } from '../bytes';
import type { Session } from '../session';
import type { Status } from '../status';
import type { Bytes } from '../wire';
import type { CallMethods, HandlerMethods, ObservableMethods, RoomMethods, StreamMethods } from './methods';
import type { Contract, EventsOf, Given, MessageOf, NameIn, ValueHandler } from './contract';
import { type AppEnvironment } from './host';
import { type Piece } from './piece';
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
/** The methods that the pieces add. */
export interface AppSession<C = Contract> extends CallMethods<C>, StreamMethods, HandlerMethods<C>, ObservableMethods<C>, RoomMethods {
}
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
    /**
     * Receives bytes. In the bulk lane, the next message waits for the promise that it returns. Units
     * wait until one of the hooks is set, or `on`, `handle`, `call` or `observable` is called.
     */
    onmessage: BytesHandler | null;
    /** Receives text. */
    ontext: ((text: string, lane: LaneName) => unknown) | null;
    /** Receives the values of `sendJson`, whatever their format. */
    onjson: ValueHandler<MessageOf<C>> | null;
    readonly id: string;
    readonly connection: string;
    readonly status: Status;
    renew: (status: Status) => boolean;
    /** Returns what the server has not acknowledged; see `Session.bufferedAmount`. */
    readonly bufferedAmount: (lane?: LaneName) => number;
    /** Measures the round trip in milliseconds; see `Session.ping`. */
    readonly ping: () => Promise<number>;
    /** Tries to connect now. */
    readonly retry: () => void;
    /** Ends the session after the current task; see `Session.close`. */
    readonly close: () => void;
    /** Use `connect`, `attach` or `attachOnly`. */
    constructor(raw: Session, options: AppOptions<C>, environment: AppEnvironment, pieces: readonly Piece[]);
    /** Uses those hooks that the options have. Internal. */
    adopt(options: AppOptions<C>): void;
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
    /** Calls `watcher` after each change of the status, until the returned function is called. */
    watchStatus(watcher: (status: Status) => void): () => void;
}
