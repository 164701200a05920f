// Values: JSON, MessagePack and numeric arrays, told apart by their first byte.

import type { Bytes } from '../wire';
import { decodeJson, encodeJson } from './json';
import { decodeMessagePack } from './message_pack_decoder';
import { encodeMessagePack } from './message_pack_encoder';
import { arrayFormat, decodeArray, encodeArray } from './numeric_array';
import { Undecodable } from './undecodable';

/** Format of the values that are not numeric arrays. Values of both formats are decoded. */
export type Codec = 'json' | 'messagepack';

/** Deepest nesting of arrays and objects in a value. */
export const DEPTH = 127;

const JSON_FORMAT = 0;
const MESSAGE_PACK_FORMAT = 1;

/**
 * Returns a unit of this head and this value. Throws a `TypeError` or a `RangeError` for a value
 * that its format does not have, or that is nested too deeply.
 */
export function encodeValue(head: readonly number[], value: unknown, codec: Codec): Bytes {
  const array = value instanceof ArrayBuffer ? new Uint8Array(value) : value;
  const format = ArrayBuffer.isView(array) ? arrayFormat(array) : undefined;
  if (format !== undefined) return encodeArray(head, format, array as ArrayBufferView);
  return codec === 'json'
    ? withContent([...head, JSON_FORMAT], encodeJson(value, DEPTH))
    : withContent([...head, MESSAGE_PACK_FORMAT], encodeMessagePack(value, DEPTH));
}

export const isMessagePack = (unit: Bytes, at: number): boolean => unit[at] === MESSAGE_PACK_FORMAT;

/** Returns a unit of this head and this content. */
export function withContent(head: readonly number[], content: Uint8Array): Bytes {
  const unit = new Uint8Array(head.length + content.length);
  unit.set(head);
  unit.set(content, head.length);
  return unit;
}

/** Decodes the value that begins at `at` and ends with the unit. Throws `Undecodable`. */
export function decodeValue(unit: Bytes, at: number): unknown {
  const format = unit[at];
  switch (format) {
    case undefined:
      return null;
    case JSON_FORMAT:
      return decodeJson(unit.subarray(at + 1), DEPTH);
    case MESSAGE_PACK_FORMAT:
      return decodeMessagePack(unit.subarray(at + 1), DEPTH);
    default:
      return decodeArray(unit, format, at + 1) ?? unknownFormat(format);
  }
}

function unknownFormat(format: number): never {
  throw new Undecodable(`A value has the unknown format ${format}.`);
}
