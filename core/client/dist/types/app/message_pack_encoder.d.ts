import type { Bytes } from '../wire';
/**
 * Encodes a value. Bytes (`ArrayBuffer`, `Uint8Array`, `DataView`) become `bin`, a bigint an
 * integer of 64 bits, and other typed arrays become arrays. As in JSON, members that are undefined
 * or functions are left out, and `toJSON` is called, so that a `Date` becomes text. Throws a
 * `RangeError` for a bigint of over 64 bits, and for a value nested more deeply than `depth`, as
 * every value with a cycle is.
 */
export declare function encodeMessagePack(value: unknown, depth: number): Bytes;
