// The slim client and the layer in one file, for servers whose values are JSON.

import type { AppOptions as AnyOptions, AppSession } from './app_session';
import { attached } from './attach';
import { streams } from './calls';
import type { Contract } from './contract';
import { handlers } from './handlers';
import { arrays } from './numeric_array';
import { observables } from './observables';
import { pageErrors } from './page_errors';
import { rooms } from './rooms';
import { connect as connectRaw } from '../slim';
import type { Options, Session, Ticket } from '../slim';

export type { LaneName, Obstacle, Session, Status, Ticket } from '../slim';
export type { BytesHandler } from './app_session';
export type { CallOptions } from './calls';
export type { CallFailure } from './call_error';
export type { Contract } from './contract';
export type { Observable } from './observable';
export type { Member, Room, RoomChange, RoomHandler, RoomOut, RoomWatcher } from './room';
export { AppSession } from './app_session';
export { CallError } from './call_error';
export { MissingPiece } from './piece';
export { OutboxFull, SessionOver, TooLarge } from '../slim';

/** Options of the layer. */
export type AppOptions<C = Contract> = Omit<AnyOptions<C>, 'codec'>;

/** Connects this page to the session of its ticket, as the slim client's own `connect` does. */
export function connect<C = Contract>(ticket: Ticket, options: Pick<Options, 'outbox' | 'url'> & AppOptions<C> = {}): AppSession<C> {
  const { outbox, url } = options;
  // To the client, an option that is undefined is absent.
  return attach(connectRaw(ticket, { outbox, url } as Options), options);
}

/**
 * Puts the layer on a session. It has all pieces but `messagePack`: a value in MessagePack is a
 * `MissingPiece`. Returns the same `AppSession` for the same session; the hooks of the newest call
 * are used.
 */
export function attach<C = Contract>(session: Session, options: AppOptions<C> = {}): AppSession<C> {
  return attached(session, [streams, handlers, observables, rooms, arrays, pageErrors], options);
}
