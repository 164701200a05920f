import type { Bytes } from './wire';
/** All of these bytes in a buffer of their own. */
export declare function join(parts: readonly Uint8Array[]): Bytes;
