import type { Bytes } from '../wire';
/** The arrays that have a format of their own. */
export type NumericArray = Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array | BigUint64Array | BigInt64Array;
/** Returns the format of an array. Undefined if it has none, as with `Float16Array`. */
export declare function arrayFormat(array: ArrayBufferView): number | undefined;
/** Returns a unit of this head and the elements of this array, in one copy. */
export declare function encodeArray(head: readonly number[], format: number, { buffer, byteOffset, byteLength }: ArrayBufferView): Bytes;
/**
 * Returns the array whose padding begins at `at`: a view of the unit, or of one copy of its
 * elements if they are not aligned in memory. Undefined if there is no such format. Throws
 * `Undecodable`.
 */
export declare function decodeArray(unit: Bytes, format: number, at: number): NumericArray | undefined;
