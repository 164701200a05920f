import { CallError } from './call_error';
import type { Piece } from './piece';
import { type Unit } from './unit';
export interface CallOptions {
    /** Milliseconds to wait for the answer. By default, a call waits until the session is over. */
    readonly timeout?: number;
    /** Cancels the call when aborted. The other side stops too, if its handler heeds that. */
    readonly signal?: AbortSignal;
}
/** Calls of the server's handlers: `call`. */
export declare const calls: Piece<'call'>;
/** Calls, and those whose answer is a stream: `call` and `stream`. Takes the place of `calls`. */
export declare const streams: Piece<'call' | 'stream'>;
/** Waits for the end of a call. */
export interface Waiting {
    resolve(answer: unknown): void;
    reject(error: unknown): void;
    /** Takes an item of a streamed answer. */
    push?(item: Unit): void;
}
/** Returns what a call rejects with whose answer, or an item of it, cannot be decoded. */
export declare function undecodable(error: unknown): CallError;
