import type { Bytes } from '../wire';
/** Format of the values that are not numeric arrays. Values of both formats are decoded. */
export type Codec = 'json' | 'messagepack';
/** Deepest nesting of arrays and objects in a value. */
export declare const DEPTH = 127;
/**
 * Returns a unit of this head and this value. Throws a `TypeError` or a `RangeError` for a value
 * that its format does not have, or that is nested too deeply.
 */
export declare function encodeValue(head: readonly number[], value: unknown, codec: Codec): Bytes;
export declare const isMessagePack: (unit: Bytes, at: number) => boolean;
/** Returns a unit of this head and this content. */
export declare function withContent(head: readonly number[], content: Uint8Array): Bytes;
/** Decodes the value that begins at `at` and ends with the unit. Throws `Undecodable`. */
export declare function decodeValue(unit: Bytes, at: number): unknown;
