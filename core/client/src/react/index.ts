// Hooks for React 18 and later. They are safe under StrictMode and concurrent rendering.

import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';

import { connect } from '../app/index';
import type { AppSession, CallOptions, ConnectOptions, Contract } from '../app/index';
import type { AnswerOf, AnyName, CallsOf, NameIn, ObservablesOf, QueryOf } from '../app/contract';
import type { From, Status, Ticket } from '../index';
import { type CallState, CallStore } from './call_store';

export type { CallState } from './call_store';

/**
 * Connects while the component is mounted, and closes the session afterwards. Returns null in the
 * first render. A component that is mounted again in one task keeps its session, as in StrictMode.
 * Only another ticket makes another session; later `options` are ignored.
 */
export function useSession<C = Contract>(ticket: Ticket | From, options?: ConnectOptions<C>): AppSession<C> | null {
  const [session, setSession] = useState<AppSession<C> | null>(null);
  useEffect(() => {
    const session = connect<C>(ticket, options);
    setSession(session);
    return () => session.close();
    // The ticket decides, by its content: a parent may parse it again in each render.
  }, [JSON.stringify(ticket)]);
  return session;
}

/** Returns the status of the session, and null without one. */
export function useStatus(session: Pick<AppSession, 'status' | 'watchStatus'> | null): Status | null {
  const subscribe = useCallback((changed: () => void) => session?.watchStatus(changed) ?? nothing, [session]);
  const snapshot = (): Status | null => session?.status ?? null;
  return useSyncExternalStore(subscribe, snapshot, snapshot);
}

/** Returns the value of an observable and a function that sets it, as `useState` does. */
export function useObservable<C, N extends NameIn<ObservablesOf<C>>>(
  session: AppSession<C> | null,
  name: N,
  initial: ObservablesOf<C>[N],
): [ObservablesOf<C>[N], (value: ObservablesOf<C>[N]) => void];
export function useObservable<T, C = Contract>(session: AppSession<C> | null, name: AnyName<ObservablesOf<C>>, initial: T): [T, (value: T) => void];
export function useObservable(session: AppSession | null, name: string, initial: unknown): [unknown, (value: unknown) => void] {
  const [first] = useState(initial);
  const observable = session?.observable(name, first);
  const subscribe = useCallback((changed: () => void) => observable?.subscribe(changed) ?? nothing, [observable]);
  const snapshot = (): unknown => (observable ? observable.value : first);
  const value = useSyncExternalStore(subscribe, snapshot, snapshot);
  const set = useCallback((value: unknown) => observable?.set(value), [observable]);
  return [value, set];
}

/**
 * Returns a function that calls the server's handler, and the state of its newest call. The
 * function rejects like `AppSession.call`, and with a `TypeError` without a session; who needs only
 * the state may ignore that.
 */
export function useCall<C, N extends NameIn<CallsOf<C>>>(
  session: AppSession<C> | null,
  name: N,
): [(query: QueryOf<CallsOf<C>[N]>, options?: CallOptions) => Promise<AnswerOf<CallsOf<C>[N]>>, CallState<AnswerOf<CallsOf<C>[N]>>];
export function useCall<A = unknown, C = Contract>(
  session: AppSession<C> | null,
  name: AnyName<CallsOf<C>>,
): [(query?: unknown, options?: CallOptions) => Promise<A>, CallState<A>];
export function useCall(session: AppSession | null, name: string): [(query?: unknown, options?: CallOptions) => Promise<unknown>, CallState<unknown>] {
  const [store] = useState(() => new CallStore<unknown>());
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
  const call = useCallback((query?: unknown, options?: CallOptions) => {
    if (!session) return Promise.reject(new TypeError('useCall() has no session yet.'));
    return store.follow(session.call(name, query, options));
  }, [session, name, store]);
  return [call, state];
}

function nothing(): void {}
