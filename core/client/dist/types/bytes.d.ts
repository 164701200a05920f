import type { Bytes } from './wire';
/** Returns all parts in one new buffer. */
export declare function join(parts: readonly Uint8Array[]): Bytes;
