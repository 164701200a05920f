import type { Session } from '../session';
import { type AppOptions, AppSession } from './app_session';
import { streams } from './calls';
import type { Contract } from './contract';
import { handlers } from './handlers';
import { observables } from './observables';
import type { Piece } from './piece';
import { rooms } from './rooms';
/**
 * Puts the layer on a session, such as `stillhere.session` of a script tag. Returns the same
 * `AppSession` for the same session; the hooks of the newest call are used.
 */
export declare function attach<C = Contract>(session: Session, options?: AppOptions<C>): AppSession<C>;
/** A session with these pieces of the layer: what every session has, and the methods that they add. */
export type AppSessionOf<P extends readonly Piece[], C = Contract> = Omit<AppSession<C>, Exclude<MethodName, NamesOf<P[number]>>>;
type MethodName = NamesOf<typeof streams | typeof handlers | typeof observables | typeof rooms>;
type NamesOf<P> = P extends Piece<infer Names> ? Names : never;
/**
 * Puts these pieces of the layer on a session, and no others, so that bundlers leave the others
 * out. Events, text, bytes and values in JSON need none. What needs another piece is an error, a
 * `MissingPiece`. For the same session it returns what the first call of this or `attach` has.
 */
export declare function attachOnly<const P extends readonly Piece[], C = Contract>(session: Session, pieces: P, options?: AppOptions<C>): AppSessionOf<P, C>;
/** Puts these pieces of the layer on a session, and takes them for all. */
export declare function attached<C>(session: Session, pieces: readonly Piece[], options: AppOptions<C>): AppSession<C>;
export {};
