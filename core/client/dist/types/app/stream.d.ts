import type { Unit } from './unit';
/** Items that a stream may have waiting in the page. */
export declare const CREDIT = 16;
/** What a stream asks of its call. */
export interface StreamCall {
    /** Allows `count` further items. May throw `OutboxFull`. */
    more(count: number): void;
    cancel(): void;
}
/**
 * The items of an answer. The server sends further ones only as the page takes them. To leave the
 * loop cancels the call.
 */
export declare class Stream implements AsyncIterableIterator<unknown, unknown> {
    #private;
    constructor(call: StreamCall);
    [Symbol.asyncIterator](): this;
    next(): Promise<IteratorResult<unknown, unknown>>;
    return(value?: unknown): Promise<IteratorResult<unknown, unknown>>;
    /** Takes an item that has arrived. */
    push(item: Unit): void;
    /** Ends the stream with the server's answer, or with an error. */
    finish(answer: unknown): void;
    fail(error: unknown): void;
}
