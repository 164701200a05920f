import type { CallOptions } from './calls';
import type { AnswerOf, AnyName, CallsOf, NameIn, ObservablesOf, QueryOf } from './contract';
import type { Observable } from './observable';
import type { Room } from './room';
export interface CallMethods<C> {
    /**
     * Calls the server's handler of this name, once over any number of cuts. Rejects with a
     * `CallError`; and like `sendJson` throws, if it cannot be sent.
     */
    call<N extends NameIn<CallsOf<C>>>(name: N, query: QueryOf<CallsOf<C>[N]>, options?: CallOptions): Promise<AnswerOf<CallsOf<C>[N]>>;
    call<A = unknown>(name: AnyName<CallsOf<C>>, query?: unknown, options?: CallOptions): Promise<A>;
}
export interface StreamMethods {
    /**
     * Calls a handler that answers with a stream, for `for await`. The items come only as fast as the
     * page takes them, and leaving the loop cancels the call. What the iterator returns at its end is
     * the answer. It rejects as `call` does.
     */
    stream<T = unknown>(name: string, query?: unknown, options?: CallOptions): AsyncIterableIterator<T, unknown>;
}
export interface HandlerMethods<C> {
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
}
export interface ObservableMethods<C> {
    /** Returns the observable of this name. `initial` is its value until one of the sides sets it. */
    observable<N extends NameIn<ObservablesOf<C>>>(name: N, initial: ObservablesOf<C>[N]): Observable<ObservablesOf<C>[N]>;
    observable<T>(name: AnyName<ObservablesOf<C>>, initial: T): Observable<T>;
}
export interface RoomMethods {
    /** Returns the room of this name. The page is a member if it joins, or the server has it join. */
    room<S = unknown>(name: string): Room<S>;
}
