import { type Waiting } from './calls';
import type { Host } from './host';
import type { Unit } from './unit';
/** Items that a stream may have waiting in the page. */
export declare const CREDIT = 16;
/** What a stream asks of its call. */
export interface StreamCall {
    /** Allows `count` further items. May throw `OutboxFull`. */
    more(count: number): void;
    stop(): void;
}
type Result = IteratorResult<unknown, unknown>;
/**
 * The items of an answer. The server sends further ones only as the page takes them. To leave the
 * loop cancels the call.
 */
export declare class Stream implements AsyncIterableIterator<unknown, unknown>, Waiting {
    #private;
    constructor(host: Host, call: StreamCall);
    [Symbol.asyncIterator](): this;
    next(): Promise<Result>;
    return(value?: unknown): Promise<Result>;
    /** Takes an item that has arrived. */
    push(item: Unit): void;
    /** Ends the stream with the server's answer. */
    resolve(answer: unknown): void;
    reject(error: unknown): void;
}
export {};
