import type { AppSession, CallOptions, ConnectOptions, Contract } from '../app/index';
import type { AnswerOf, AnyName, CallsOf, NameIn, ObservablesOf, QueryOf } from '../app/contract';
import type { From, Status, Ticket } from '../index';
import { type CallState } from './call_store';
export type { CallState } from './call_store';
/**
 * Connects while the component is mounted, and closes the session afterwards. Returns null in the
 * first render. A component that is mounted again in one task keeps its session, as in StrictMode.
 * Only another ticket makes another session; later `options` are ignored.
 */
export declare function useSession<C = Contract>(ticket: Ticket | From, options?: ConnectOptions<C>): AppSession<C> | null;
/** Returns the status of the session, and null without one. */
export declare function useStatus(session: Pick<AppSession, 'status' | 'watchStatus'> | null): Status | null;
/** Returns the value of an observable and a function that sets it, as `useState` does. */
export declare function useObservable<C, N extends NameIn<ObservablesOf<C>>>(session: AppSession<C> | null, name: N, initial: ObservablesOf<C>[N]): [ObservablesOf<C>[N], (value: ObservablesOf<C>[N]) => void];
export declare function useObservable<T, C = Contract>(session: AppSession<C> | null, name: AnyName<ObservablesOf<C>>, initial: T): [T, (value: T) => void];
/**
 * Returns a function that calls the server's handler, and the state of its newest call. The
 * function rejects like `AppSession.call`, and with a `TypeError` without a session; who needs only
 * the state may ignore that.
 */
export declare function useCall<C, N extends NameIn<CallsOf<C>>>(session: AppSession<C> | null, name: N): [(query: QueryOf<CallsOf<C>[N]>, options?: CallOptions) => Promise<AnswerOf<CallsOf<C>[N]>>, CallState<AnswerOf<CallsOf<C>[N]>>];
export declare function useCall<A = unknown, C = Contract>(session: AppSession<C> | null, name: AnyName<CallsOf<C>>): [(query?: unknown, options?: CallOptions) => Promise<A>, CallState<A>];
