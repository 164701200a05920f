import type { Piece } from './piece';
/** The arrays that have a format of their own. */
export type NumericArray = Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array | Float32Array | Float64Array | BigUint64Array | BigInt64Array;
/** Numeric arrays as values. */
export declare const arrays: Piece<never>;
