import type { From, Options, Ticket } from '../index';
import type { AppOptions, AppSession } from './app_session';
import type { Contract } from './contract';
export type { AppOptions, BytesHandler } from './app_session';
export type { AppSessionOf } from './attach';
export type { CallOptions } from './calls';
export type { CallFailure } from './call_error';
export type { Contract } from './contract';
export type { AppGlobal } from './global';
export type { Observable } from './observable';
export type { Piece } from './piece';
export type { Member, Room, RoomChange, RoomHandler, RoomOut, RoomWatcher } from './room';
export type { Codec } from './value';
export { AppSession } from './app_session';
export { attach, attachOnly } from './attach';
export { CallError } from './call_error';
export { calls, streams } from './calls';
export { handlers } from './handlers';
export { messagePack } from './message_pack';
export { arrays } from './numeric_array';
export { observables } from './observables';
export { pageErrors } from './page_errors';
export { MissingPiece } from './piece';
export { rooms } from './rooms';
/** Options of the session and of the layer. */
export type ConnectOptions<C = Contract> = Pick<Options, 'outbox' | 'url' | 'from'> & AppOptions<C>;
/** Connects this page to the session of its ticket, as the client's own `connect` does. */
export declare function connect<C = Contract>(ticket: Ticket | From, options?: ConnectOptions<C>): AppSession<C>;
