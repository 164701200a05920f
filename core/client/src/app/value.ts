// Values: JSON, MessagePack and numeric arrays, told apart by their first byte.

import type { Bytes } from '../wire';
import { decodeJson, encodeJson } from './json';
import { lacking } from './piece';
import { Undecodable } from './undecodable';
import type { Unit } from './unit';

/** Format of the values that are not numeric arrays. Values of both formats are decoded. */
export type Codec = 'json' | 'messagepack';

/** Deepest nesting of arrays and objects in a value. */
const DEPTH = 127;

const JSON_FORMAT = 0;
const MESSAGE_PACK_FORMAT = 1;
/** The first and the last format of numeric arrays. */
const [FIRST_ARRAY, LAST_ARRAY] = [16, 25] as const;

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
export class Values {
  /** Absent without their pieces. */
  messagePack: MessagePack | undefined;
  arrays: Arrays | undefined;
  /** Undefined until the page has chosen, or the server has sent MessagePack. */
  #codec: Codec | undefined;

  constructor(codec: Codec | undefined) {
    this.#codec = codec;
  }

  /**
   * Returns a unit of this head and this value. Throws a `TypeError` or a `RangeError` for a value
   * that its format does not have, or that is nested too deeply.
   */
  encode(head: readonly number[], value: unknown): Bytes {
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
      const unit = (this.arrays ?? lacking('arrays')).encode(head, value, FIRST_ARRAY);
      if (unit) return unit;
    }
    return this.#codec === 'messagepack'
      ? withContent([...head, MESSAGE_PACK_FORMAT], (this.messagePack ?? lacking('messagePack')).encode(value, DEPTH))
      : withContent([...head, JSON_FORMAT], encodeJson(value, DEPTH));
  }

  /**
   * Decodes the value that begins at `at` and ends with the unit. Throws `Undecodable` or
   * `MissingPiece`.
   */
  decode({ bytes, at }: Pick<Unit, 'bytes' | 'at'>): unknown {
    const format = bytes[at];
    const content = bytes.subarray(at + 1);
    if (format === undefined) return null;
    if (format === JSON_FORMAT) return decodeJson(content, DEPTH);
    if (format === MESSAGE_PACK_FORMAT) return (this.messagePack ?? lacking('messagePack')).decode(content, DEPTH);
    if (format < FIRST_ARRAY || format > LAST_ARRAY) throw new Undecodable(`A value has the unknown format ${format}.`);
    return (this.arrays ?? lacking('arrays')).decode(bytes, format - FIRST_ARRAY, at + 1);
  }

  /** Goes over to MessagePack if this is a value in it, unless the page has chosen a format. */
  adopt({ bytes, at }: Unit): void {
    if (bytes[at] === MESSAGE_PACK_FORMAT && this.messagePack) this.#codec ??= 'messagepack';
  }
}

/** Returns a unit of this head and this content. */
export function withContent(head: readonly number[], content: Uint8Array): Bytes {
  const unit = new Uint8Array(head.length + content.length);
  unit.set(head);
  unit.set(content, head.length);
  return unit;
}
