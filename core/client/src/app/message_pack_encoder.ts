// Encodes MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md).

import { viewOf } from '../bytes';
import type { Bytes } from '../wire';
import { encodeText } from './unit';

/**
 * Encodes a value. Bytes (`ArrayBuffer`, `Uint8Array`, `DataView`) become `bin`, a bigint an
 * integer of 64 bits, and other typed arrays become arrays. As in JSON, members that are undefined
 * or functions are left out, and `toJSON` is called, so that a `Date` becomes text. Throws a
 * `RangeError` for a bigint of over 64 bits, and for a value nested more deeply than `depth`, as
 * every value with a cycle is.
 */
export function encodeMessagePack(value: unknown, depth: number): Bytes {
  /** The last number, at the end. */
  const number = new Uint8Array(8);
  const view = new DataView(number.buffer);
  let bytes = new Uint8Array(256);
  let length = 0;

  /** Makes room for `size` further bytes, and returns where they begin. */
  const grow = (size: number): number => {
    length += size;
    if (length > bytes.length) {
      const longer = new Uint8Array(length * 2);
      longer.set(bytes);
      bytes = longer;
    }
    return length - size;
  };

  const byte = (value: number): void => {
    const at = grow(1);
    bytes[at] = value;
  };

  const raw = (part: Uint8Array): void => {
    const at = grow(part.length);
    bytes.set(part, at);
  };

  /** Writes a type and the last `width` bytes of the number. */
  const typed = (type: number, width: number): void => {
    byte(type);
    for (; width; width--) byte(number[8 - width]!);
  };

  /**
   * Writes a type and its length: below `few` in one byte, otherwise in 1, 2 or 4 further bytes.
   * `long` is the type with 1 byte; arrays and maps lack that form.
   */
  const head = (length: number, short: number, few: number, long: number): void => {
    if (length < few) return byte(short + length);
    const power = length < 2 ** 8 && few !== 16 ? 0 : length < 2 ** 16 ? 1 : 2;
    view.setUint32(4, length);
    typed(long + power, 1 << power);
  };

  /** Writes an integer in the smallest form that holds it. */
  const integer = (value: number | bigint): void => {
    if (value >= -32 && value < 128) return byte(Number(value));
    const big = BigInt(value);
    const isSigned = big < 0n;
    view.setBigInt64(0, big);
    for (let power = 0; power < 4; power++) {
      const bits = 8 << power;
      if ((isSigned ? BigInt.asIntN(bits, big) : BigInt.asUintN(bits, big)) === big) return typed((isSigned ? 0xd0 : 0xcc) + power, 1 << power);
    }
    throw new RangeError(`An integer has at most 64 bits: ${value}`);
  };

  const object = (value: object, depth: number): void => {
    if (value instanceof ArrayBuffer || value instanceof Uint8Array || value instanceof Uint8ClampedArray || value instanceof DataView) {
      head(value.byteLength, 0, 0, 0xc4);
      return raw(viewOf(value, ''));
    }
    if (!depth--) throw new RangeError('The value is nested too deeply, or has a cycle.');
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === 'function') return put(toJSON.call(value, ''), depth);
    if (Array.isArray(value) || ArrayBuffer.isView(value)) {
      const items = value as unknown as ArrayLike<unknown>;
      head(items.length, 0x90, 16, 0xdb);
      for (let index = 0; index < items.length; index++) put(items[index], depth);
      return;
    }
    const isKept = ([, member]: [unknown, unknown]): boolean => member !== undefined && typeof member !== 'function' && typeof member !== 'symbol';
    const members = value instanceof Map ? [...value] : Object.entries(value).filter(isKept);
    head(members.length, 0x80, 16, 0xdd);
    for (const [key, member] of members) {
      put(key, depth);
      put(member, depth);
    }
  };

  const put = (value: unknown, depth: number): void => {
    if (typeof value === 'string') {
      const text = encodeText(value);
      head(text.length, 0xa0, 32, 0xd9);
      raw(text);
    } else if (typeof value === 'bigint' || (Number.isSafeInteger(value) && !Object.is(value, -0))) integer(value as number);
    else if (typeof value === 'number') {
      view.setFloat64(0, value);
      byte(0xcb);
      raw(number);
    } else if (typeof value === 'boolean') byte(value ? 0xc3 : 0xc2);
    else if (value && typeof value === 'object') object(value, depth);
    else byte(0xc0);
  };

  put(value, depth);
  return bytes.subarray(0, length);
}
