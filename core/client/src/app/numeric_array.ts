// Numeric arrays, which travel as they lie in memory: little-endian, as every browser's machine is.

import type { Bytes } from '../wire';
import { Undecodable } from './undecodable';

/** The arrays that have a format of their own. */
export type NumericArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** Their constructors. The position, counted from `FIRST`, is the format. */
const ARRAYS = [Uint8Array, Int8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array, BigUint64Array, BigInt64Array] as const;

const FIRST = 16;

/** Elements begin at a multiple of this from the start of their unit, so that they can be viewed. */
const ALIGNMENT = 8;

/** Returns the format of an array. Undefined if it has none, as with `Float16Array`. */
export function arrayFormat(array: ArrayBufferView): number | undefined {
  // Bytes of any other kind travel as bytes.
  if (array instanceof DataView || array instanceof Uint8ClampedArray) return FIRST;
  const index = ARRAYS.findIndex((type) => array instanceof type);
  return index < 0 ? undefined : FIRST + index;
}

/** Returns a unit of this head and the elements of this array, in one copy. */
export function encodeArray(head: readonly number[], format: number, { buffer, byteOffset, byteLength }: ArrayBufferView): Bytes {
  const start = align(head.length + 1);
  const unit = new Uint8Array(start + byteLength);
  unit.set(head);
  unit[head.length] = format;
  unit.set(new Uint8Array(buffer, byteOffset, byteLength), start);
  return unit;
}

/**
 * Returns the array whose padding begins at `at`: a view of the unit, or of one copy of its
 * elements if they are not aligned in memory. Undefined if there is no such format. Throws
 * `Undecodable`.
 */
export function decodeArray(unit: Bytes, format: number, at: number): NumericArray | undefined {
  const type = ARRAYS[format - FIRST];
  if (!type) return;
  const start = align(at);
  const size = unit.length - start;
  const width = type.BYTES_PER_ELEMENT;
  if (size < 0 || size % width) throw new Undecodable(`An array of ${width} bytes for each element is cut off.`);
  if (unit.subarray(at, start).some((byte) => byte)) throw new Undecodable('The padding of an array is not zero.');
  const { buffer, byteOffset } = unit;
  const first = byteOffset + start;
  return first % width ? new type(buffer.slice(first, first + size)) : new type(buffer, first, size / width);
}

function align(offset: number): number {
  return Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
}
