// The slim client and the whole layer in one file.

import type { AppOptions, AppSession } from './app_session';
import { attach } from './attach';
import { connect as connectRaw } from '../slim';
import type { Options, Ticket } from '../slim';
import type { Contract } from './contract';

export type { LaneName, Obstacle, Session, Status, Ticket } from '../slim';
export type { AppOptions, BytesHandler } from './app_session';
export type { CallOptions } from './calls';
export type { CallFailure } from './call_error';
export type { Contract } from './contract';
export type { Observable } from './observable';
export type { Member, Room, RoomChange, RoomHandler, RoomOut, RoomWatcher } from './room';
export type { Codec } from './value';
export { AppSession } from './app_session';
export { attach } from './attach';
export { CallError } from './call_error';
export { OutboxFull, SessionOver, TooLarge } from '../slim';

/** Connects this page to the session of its ticket, as the slim client's own `connect` does. */
export function connect<C = Contract>(ticket: Ticket, options: Pick<Options, 'outbox' | 'url'> & AppOptions<C> = {}): AppSession<C> {
  const { outbox, url } = options;
  // To the client, an option that is undefined is absent.
  return attach(connectRaw(ticket, { outbox, url } as Options), options);
}
