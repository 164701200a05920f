// Numeric arrays, which travel as they lie in memory: little-endian, as every browser's machine is.

import { viewOf } from '../bytes';
import type { Bytes } from '../wire';
import type { Piece } from './piece';
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

/** Their constructors. The position is the format. */
const ARRAYS = [Uint8Array, Int8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array, BigUint64Array, BigInt64Array] as const;

/** Elements begin at a multiple of this from the start of their unit, so that they can be viewed. */
const ALIGNMENT = 8;

/** Numeric arrays as values. */
export const arrays: Piece<never> = ({ formats }) => {
  formats.arrays = { encode, decode };
  return {};
};

/**
 * Returns a unit of this head and the elements of this array, in one copy. Undefined if the array
 * has no format, as with `Float16Array`.
 */
function encode(head: readonly number[], array: ArrayBuffer | ArrayBufferView, first: number): Bytes | undefined {
  // Bytes of any other kind travel as bytes.
  const isBytes = array instanceof ArrayBuffer || array instanceof DataView || array instanceof Uint8ClampedArray;
  const index = isBytes ? 0 : ARRAYS.findIndex((type) => array instanceof type);
  if (index < 0) return;
  const start = align(head.length + 1);
  const unit = new Uint8Array(start + array.byteLength);
  unit.set([...head, first + index]);
  unit.set(viewOf(array, ''), start);
  return unit;
}

/**
 * Returns the array whose padding begins at `at`: a view of the unit, or of one copy of its
 * elements if they are not aligned in memory. Throws `Undecodable`.
 */
function decode(unit: Bytes, index: number, at: number): NumericArray {
  const type = ARRAYS[index]!;
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
