// Decodes MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md).

import type { Bytes } from '../wire';
import { Undecodable } from './undecodable';
import { decodeText } from './unit';

/**
 * Decodes one value. `bin` becomes a `Uint8Array` of its own, a map an object, and an integer that
 * a number cannot hold a bigint. Throws `Undecodable`, also for extensions and for a value nested
 * more deeply than `depth`.
 */
export function decodeMessagePack(bytes: Bytes, depth: number): unknown {
  const decoder = new Decoder(bytes);
  const value = decoder.next(depth);
  return decoder.isAtEnd ? value : broken('it has a rest');
}

class Decoder {
  readonly #bytes: Bytes;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  next(depth: number): unknown {
    const type = this.#take(1);
    const byte = this.#bytes[type]!;
    if (byte < 0x80) return byte;
    if (byte < 0x90) return this.#map(byte & 15, depth);
    if (byte < 0xa0) return this.#array(byte & 15, depth);
    if (byte < 0xc0) return this.#text(byte & 31);
    if (byte >= 0xe0) return byte - 256;
    if (byte >= 0xcc && byte <= 0xd3) return this.#integer(1 << (byte & 3), byte >= 0xd0);
    return this.#other(byte, depth);
  }

  #other(byte: number, depth: number): unknown {
    switch (byte) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return byte === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#bin(this.#length(byte - 0xc4));
      case 0xca:
        return this.#view.getFloat32(this.#take(4));
      case 0xcb:
        return this.#view.getFloat64(this.#take(8));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#length(byte - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#length(byte - 0xdb), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#length(byte - 0xdd), depth);
    }
    return broken(`it has the type ${byte}`);
  }

  /** Reads a length of 1, 2 or 4 bytes. */
  #length(power: number): number {
    return this.#integer(1 << power, false) as number;
  }

  #integer(width: number, isSigned: boolean): number | bigint {
    const at = this.#take(width);
    const view = this.#view;
    if (width === 8) {
      const value = isSigned ? view.getBigInt64(at) : view.getBigUint64(at);
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
    if (width === 4) return isSigned ? view.getInt32(at) : view.getUint32(at);
    if (width === 2) return isSigned ? view.getInt16(at) : view.getUint16(at);
    return isSigned ? view.getInt8(at) : view.getUint8(at);
  }

  #text(length: number): string {
    const at = this.#take(length);
    return decodeText(this.#bytes, at, at + length);
  }

  #bin(length: number): Bytes {
    const at = this.#take(length);
    return this.#bytes.slice(at, at + length);
  }

  #array(length: number, depth: number): unknown[] {
    this.#enter(length, depth);
    const items: unknown[] = [];
    for (; length; length--) items.push(this.next(depth - 1));
    return items;
  }

  #map(length: number, depth: number): Record<string, unknown> {
    this.#enter(length * 2, depth);
    const map: Record<string, unknown> = {};
    for (; length; length--) {
      const key = this.next(depth - 1);
      if (typeof key === 'object') broken('a key is neither a text nor a number');
      const value = this.next(depth - 1);
      // An assignment to `__proto__` would change the prototype.
      if (key === '__proto__') Object.defineProperty(map, key, { value, configurable: true, enumerable: true, writable: true });
      else map[String(key)] = value;
    }
    return map;
  }

  /** Checks that a container of this many values may follow, so that no length is taken on trust. */
  #enter(length: number, depth: number): void {
    if (!depth) broken('it is nested too deeply');
    if (length > this.#bytes.length - this.#at) broken('it ends too early');
  }

  /** Takes the next `size` bytes and returns where they begin. */
  #take(size: number): number {
    const at = this.#at;
    this.#at += size;
    return this.#at <= this.#bytes.length ? at : broken('it ends too early');
  }
}

function broken(why: string): never {
  throw new Undecodable(`A value is not MessagePack: ${why}.`);
}
