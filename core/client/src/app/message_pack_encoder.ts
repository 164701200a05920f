// Encodes MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md).

import type { Bytes } from '../wire';

const text = new TextEncoder();

/**
 * Encodes a value. Bytes (`ArrayBuffer`, `Uint8Array`, `DataView`) become `bin`, a bigint an
 * integer of 64 bits, and other typed arrays become arrays. As in JSON, members that are undefined
 * or functions are left out, and `toJSON` is called, so that a `Date` becomes text. Throws a
 * `RangeError` for a bigint of over 64 bits, and for a value nested more deeply than `depth`, as
 * every value with a cycle is.
 */
export function encodeMessagePack(value: unknown, depth: number): Bytes {
  return new Encoder().encode(value, depth);
}

/** A buffer that grows. */
class Encoder {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  encode(value: unknown, depth: number): Bytes {
    this.#put(value, depth);
    return this.#bytes.subarray(0, this.#length);
  }

  #put(value: unknown, depth: number): void {
    switch (typeof value) {
      case 'boolean':
        return this.#byte(value ? 0xc3 : 0xc2);
      case 'number':
        return this.#number(value);
      case 'bigint':
        return this.#bigint(value);
      case 'string': {
        const bytes = text.encode(value);
        this.#head(bytes.length, 0xa0, 32, 0xd9);
        return this.#raw(bytes);
      }
      case 'object':
        return value ? this.#object(value, depth) : this.#byte(0xc0);
      default:
        return this.#byte(0xc0);
    }
  }

  #object(value: object, depth: number): void {
    if (value instanceof ArrayBuffer) return this.#bin(new Uint8Array(value));
    if (value instanceof Uint8Array || value instanceof Uint8ClampedArray || value instanceof DataView) {
      return this.#bin(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    }
    if (!depth) throw new RangeError('The value is nested too deeply, or has a cycle.');
    const { toJSON } = value as { toJSON?: unknown };
    if (typeof toJSON === 'function') return this.#put(toJSON.call(value, ''), depth - 1);
    if (Array.isArray(value) || ArrayBuffer.isView(value)) return this.#array(value as unknown as ArrayLike<unknown>, depth - 1);
    const isKept = ([, member]: [unknown, unknown]): boolean => member !== undefined && typeof member !== 'function' && typeof member !== 'symbol';
    const members = value instanceof Map ? [...value] : Object.entries(value).filter(isKept);
    this.#head(members.length, 0x80, 16, 0xdd);
    for (const [key, member] of members) {
      this.#put(key, depth - 1);
      this.#put(member, depth - 1);
    }
  }

  #array(items: ArrayLike<unknown>, depth: number): void {
    this.#head(items.length, 0x90, 16, 0xdb);
    for (let index = 0; index < items.length; index++) this.#put(items[index], depth);
  }

  #bin(bytes: Uint8Array): void {
    this.#head(bytes.length, 0, 0, 0xc4);
    this.#raw(bytes);
  }

  /**
   * Writes a type and its length: below `few` in one byte, otherwise in 1, 2 or 4 further bytes.
   * `long` is the type with 1 byte; arrays and maps lack that form.
   */
  #head(length: number, short: number, few: number, long: number): void {
    if (length < few) return this.#byte(short + length);
    const width = length < 2 ** 8 && few !== 16 ? 0 : length < 2 ** 16 ? 1 : 2;
    this.#byte(long + width);
    this.#integer(BigInt(length), 1 << width);
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      this.#byte(0xcb);
      this.#grow(8).setFloat64(this.#length - 8, value);
    } else if (value >= -32 && value < 128) this.#byte(value & 0xff);
    else this.#bigint(BigInt(value));
  }

  /** Writes an integer in the smallest form that holds it. */
  #bigint(value: bigint): void {
    if (value >= -32n && value < 128n) return this.#byte(Number(value) & 0xff);
    for (let power = 0; power < 4; power++) {
      const width = 1 << power;
      const isSigned = value < 0n;
      const fits = isSigned ? BigInt.asIntN(8 * width, value) === value : BigInt.asUintN(8 * width, value) === value;
      if (!fits) continue;
      this.#byte((isSigned ? 0xd0 : 0xcc) + power);
      return this.#integer(value, width);
    }
    throw new RangeError(`An integer has at most 64 bits: ${value}`);
  }

  #integer(value: bigint, width: number): void {
    const view = this.#grow(width);
    for (let at = this.#length - 1; width--; at--, value >>= 8n) view.setUint8(at, Number(value & 255n));
  }

  #byte(byte: number): void {
    this.#grow(1).setUint8(this.#length - 1, byte);
  }

  #raw(bytes: ArrayLike<number>): void {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length - bytes.length);
  }

  /** Makes room for `size` further bytes, and counts them as written. */
  #grow(size: number): DataView {
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const bytes = new Uint8Array(this.#length * 2);
      bytes.set(this.#bytes);
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer);
    }
    return this.#view;
  }
}
