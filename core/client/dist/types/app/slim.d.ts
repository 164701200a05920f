import type { AppOptions, AppSession } from './app_session';
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
export declare function connect<C = Contract>(ticket: Ticket, options?: Pick<Options, 'outbox' | 'url'> & AppOptions<C>): AppSession<C>;
