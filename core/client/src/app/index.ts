// The layer above bytes: messages of several kinds, events, calls and observables.

import { connect as connectRaw } from '../index';
import type { From, Options, Session, Ticket } from '../index';
import { type AppOptions, AppSession } from './app_session';
import type { Contract } from './contract';

export type { AppOptions, BytesHandler } from './app_session';
export type { CallOptions } from './calls';
export type { CallFailure } from './call_error';
export type { Contract } from './contract';
export type { AppGlobal } from './global';
export type { Observable } from './observable';
export type { Member, Room, RoomChange, RoomHandler, RoomOut, RoomWatcher } from './room';
export type { Codec } from './value';
export { AppSession } from './app_session';
export { CallError } from './call_error';

/** Options of the session and of the layer. */
export type ConnectOptions<C = Contract> = Pick<Options, 'outbox' | 'url' | 'from'> & AppOptions<C>;

/** Holds the layer of a session, even across several copies of this script. */
const KEY = Symbol.for('stillhere.app');

/** Connects this page to the session of its ticket, as the client's own `connect` does. */
export function connect<C = Contract>(ticket: Ticket | From, options: ConnectOptions<C> = {}): AppSession<C> {
  const { outbox, url, from } = options;
  // To the client, an option that is undefined is absent.
  return attach(connectRaw(ticket, { outbox, url, from } as Options), options);
}

/**
 * Puts the layer on a session, such as `stillhere.session` of a script tag. Returns the same
 * `AppSession` for the same session; the hooks of the newest call are used.
 */
export function attach<C = Contract>(session: Session, options: AppOptions<C> = {}): AppSession<C> {
  const kept = session as Session & { [KEY]?: AppSession<C> };
  const existing = kept[KEY];
  if (!existing) return (kept[KEY] = new AppSession(session, options, window));
  const { onmessage, ontext, onjson, onerror, onstatus } = options;
  for (const [name, hook] of Object.entries({ onmessage, ontext, onjson, onerror, onstatus })) {
    if (hook) Object.assign(existing, { [name]: hook });
  }
  return existing;
}
