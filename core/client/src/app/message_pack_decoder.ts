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
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;

  /** Takes the next `size` bytes and returns where they begin. */
  const take = (size: number): number => {
    at += size;
    return at <= bytes.length ? at - size : broken('it ends too early');
  };

  const unsigned = (width: number): number => {
    const from = take(width);
    return width > 2 ? view.getUint32(from) : width > 1 ? view.getUint16(from) : bytes[from]!;
  };

  const integer = (power: number, isSigned: boolean): number | bigint => {
    if (power > 2) {
      const from = take(8);
      const value = isSigned ? view.getBigInt64(from) : view.getBigUint64(from);
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value;
    }
    const value = unsigned(1 << power);
    const limit = 2 ** (8 << power);
    return isSigned && value >= limit / 2 ? value - limit : value;
  };

  const text = (length: number): string => decodeText(bytes, take(length), at);

  /** Checks that so many values may follow, so that no length is taken on trust. */
  const enter = (count: number, depth: number): void => {
    if (!depth) broken('it is nested too deeply');
    if (count > bytes.length - at) broken('it ends too early');
  };

  const array = (length: number, depth: number): unknown[] => {
    enter(length, depth);
    const items: unknown[] = [];
    for (; length; length--) items.push(next(depth - 1));
    return items;
  };

  const map = (length: number, depth: number): Record<string, unknown> => {
    enter(length * 2, depth);
    const map: Record<string, unknown> = {};
    for (; length; length--) {
      const key = next(depth - 1);
      if (typeof key === 'object') broken('a key is neither a text nor a number');
      const value = next(depth - 1);
      // An assignment to `__proto__` would change the prototype.
      if (key === '__proto__') Object.defineProperty(map, key, { value, configurable: true, enumerable: true, writable: true });
      else map[String(key)] = value;
    }
    return map;
  };

  const next = (depth: number): unknown => {
    const byte = bytes[take(1)]!;
    if (byte < 0x80) return byte;
    if (byte < 0x90) return map(byte - 0x80, depth);
    if (byte < 0xa0) return array(byte - 0x90, depth);
    if (byte < 0xc0) return text(byte - 0xa0);
    if (byte === 0xc0) return null;
    if (byte === 0xc2 || byte === 0xc3) return byte > 0xc2;
    if (byte > 0xc3 && byte < 0xc7) return bytes.slice(take(unsigned(1 << (byte - 0xc4))), at);
    if (byte === 0xca) return view.getFloat32(take(4));
    if (byte === 0xcb) return view.getFloat64(take(8));
    if (byte > 0xcb && byte < 0xd4) return integer(byte & 3, byte > 0xcf);
    if (byte > 0xd8 && byte < 0xdc) return text(unsigned(1 << (byte - 0xd9)));
    if (byte > 0xdf) return byte - 256;
    if (byte > 0xdb) return (byte < 0xde ? array : map)(unsigned(byte & 1 ? 4 : 2), depth);
    return broken(`it has the type ${byte}`);
  };

  const value = next(depth);
  return at === bytes.length ? value : broken('it has a rest');
}

function broken(why: string): never {
  throw new Undecodable(`A value is not MessagePack: ${why}.`);
}
