import type { Piece } from './piece';
/** `signal` is aborted when the caller no longer waits, and when the session is over. */
export type CallHandler = (query: unknown, context: {
    readonly signal: AbortSignal;
}) => unknown;
/** Handlers of the server's calls: `handle`. */
export declare const handlers: Piece<'handle'>;
