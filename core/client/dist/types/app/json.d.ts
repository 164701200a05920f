import type { Bytes } from '../wire';
/**
 * Encodes a value as JSON. Bigints become numbers with all their digits. Throws a `TypeError` for a
 * value with a cycle, and a `RangeError` for one that is nested more deeply than `depth`.
 */
export declare function encodeJson(value: unknown, depth: number): Bytes;
/** Decodes JSON. Throws `Undecodable`, also for a value nested more deeply than `depth`. */
export declare function decodeJson(bytes: Bytes, depth: number): unknown;
