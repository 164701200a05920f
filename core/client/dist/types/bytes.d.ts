import type { Bytes } from './wire';
/** Bytes to send. The client copies them. */
export type Data = ArrayBuffer | ArrayBufferView;
/** Returns all parts in one new buffer. */
export declare function join(parts: readonly Uint8Array[]): Bytes;
/** Returns a view of the data's bytes. Throws a `TypeError` that says what `send` takes instead. */
export declare function viewOf(data: Data, takes: string): Uint8Array;
