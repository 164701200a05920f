import type { Bytes } from '../wire';
import type { Unit } from './unit';
/** Format of the values that are not numeric arrays. Values of both formats are decoded. */
export type Codec = 'json' | 'messagepack';
/** MessagePack, as its piece adds it. */
export interface MessagePack {
    encode(value: unknown, depth: number): Uint8Array;
    decode(bytes: Bytes, depth: number): unknown;
}
/** Numeric arrays, as their piece adds them. */
export interface Arrays {
    /** Returns a unit of this head and these numbers. Undefined if the array has no format. */
    encode(head: readonly number[], array: ArrayBuffer | ArrayBufferView, first: number): Bytes | undefined;
    /** Decodes the numbers whose padding begins at `at`; `index` counts the formats. */
    decode(unit: Bytes, index: number, at: number): unknown;
}
/** Encodes and decodes the values of a session. */
export declare class Values {
    #private;
    /** Absent without their pieces. */
    messagePack: MessagePack | undefined;
    arrays: Arrays | undefined;
    constructor(codec: Codec | undefined);
    /**
     * Returns a unit of this head and this value. Throws a `TypeError` or a `RangeError` for a value
     * that its format does not have, or that is nested too deeply.
     */
    encode(head: readonly number[], value: unknown): Bytes;
    /**
     * Decodes the value that begins at `at` and ends with the unit. Throws `Undecodable` or
     * `MissingPiece`.
     */
    decode({ bytes, at }: Pick<Unit, 'bytes' | 'at'>): unknown;
    /** Goes over to MessagePack if this is a value in it, unless the page has chosen a format. */
    adopt({ bytes, at }: Unit): void;
}
/** Returns a unit of this head and this content. */
export declare function withContent(head: readonly number[], content: Uint8Array): Bytes;
