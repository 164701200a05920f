// Values of both formats: round trips, limits, and bytes that nobody meant.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Codec } from '../../src/app/value';
import { generator } from '../random';
import { decodeValue, encodeValue } from './every_piece';

const CODECS: readonly Codec[] = ['json', 'messagepack'];
const roundTrip = (value: unknown, codec: Codec): unknown => decodeValue(encodeValue([2], value, codec), 1);

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (; depth > 0; depth--) value = depth % 2 ? [value] : { value };
  return value;
}

for (const codec of CODECS) {
  test(`values survive ${codec}`, () => {
    const values = [
      null, true, false, 0, 1, -1, 31, -32, -33, 127, 128, 255, 256, -128, -129, 65_535, 65_536, 2 ** 31, 2 ** 32, -(2 ** 31) - 1, 0.1, 1e300,
      Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 64n - 1n, 2n ** 53n + 1n,
      '', 'ü', '\ufeff世', 'x'.repeat(31), 'x'.repeat(32), 'x'.repeat(255), 'x'.repeat(256), 'x'.repeat(70_000), '"9007199254740993\\', '"['.repeat(200), '\\{'.repeat(200),
      [], [1, [2, ['9007199254740993', 9007199254740993n]]], Array.from({ length: 70_000 }, (_, index) => index % 300), {}, { a: { 'b "9': [null] } },
      Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`key ${index}`, index])), JSON.parse('{"__proto__": 1}'), nested(127),
    ];
    for (const value of values) assert.deepEqual(roundTrip(value, codec), value);
  });

  test(`${codec} has what JSON has for dates and for members without a value`, () => {
    const date = new Date(1_700_000_000_123);
    assert.deepEqual(roundTrip({ date, none: undefined, run: () => 1 }, codec), { date: date.toISOString() });
    assert.equal(roundTrip(undefined, codec), null);
  });

  test(`${codec} refuses to send what the other side would refuse`, () => {
    const cycle: unknown[] = [];
    cycle.push(cycle);
    for (const value of [nested(128), cycle]) assert.throws(() => encodeValue([2], value, codec));
  });

  test(`any bytes are a value or an error in ${codec}`, () => {
    const seed = Date.now() % 2 ** 31;
    const random = generator(seed);
    const good = encodeValue([2], { a: [1, -5, 2n ** 60n, 'text', { b: null, c: 0.5 }], d: 'ü'.repeat(40) }, codec);
    for (let round = 0; round < 30_000; round++) {
      const bytes = round % 2 ? good.slice(0, 2 + Math.floor(random() * good.length)) : new Uint8Array(2 + Math.floor(random() * 40)).map(() => random() * 256);
      for (let flips = random() * 4; flips > 0; flips--) bytes[Math.floor(random() * bytes.length)] = random() * 256;
      bytes[1] = codec === 'json' ? 0 : 1;
      try {
        decodeValue(bytes, 1);
      } catch (error) {
        assert.equal((error as Error).name, 'Undecodable', `seed ${seed}, round ${round}: ${error}`);
      }
    }
  });
}

test('bytes inside a value are bytes in MessagePack', () => {
  for (const bytes of [new Uint8Array([1, 2]), new Uint8Array([1, 2]).buffer, new DataView(new Uint8Array([1, 2]).buffer)]) {
    assert.deepEqual(roundTrip({ bytes }, 'messagepack'), { bytes: new Uint8Array([1, 2]) });
  }
  assert.deepEqual(roundTrip([new Float32Array([0.5])], 'messagepack'), [[0.5]]);
});

test('a bigint of over 64 bits is not MessagePack', () => {
  assert.throws(() => encodeValue([2], 2n ** 64n, 'messagepack'), RangeError);
});

test('an array of any kind and size arrives as a view of its message', () => {
  const arrays = [Uint8Array, Int8Array, Uint16Array, Int16Array, Uint32Array, Int32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array];
  for (const type of arrays) {
    for (const length of [0, 1, 9, 1_000_000]) {
      for (const head of [[2], [3, 5, 1, 2, 3, 4, 5]]) {
        const array = new type(length);
        for (let index = 0; index < Math.min(length, 3); index++) array[index] = (array instanceof BigInt64Array || array instanceof BigUint64Array ? 7n : 7) as never;
        const unit = encodeValue(head, array, 'json');
        const decoded = decodeValue(unit, head.length) as Uint8Array;
        assert.deepEqual(decoded, array);
        assert.equal(decoded.buffer, unit.buffer);
        const moved = new Uint8Array(unit.length + 1).subarray(1);
        moved.set(unit);
        assert.deepEqual(decodeValue(moved, head.length), array);
      }
    }
  }
});

test('an array of 10 million elements is viewed in no time', () => {
  const unit = encodeValue([2], new Float32Array(10_000_000), 'json');
  const start = performance.now();
  assert.equal((decodeValue(unit, 1) as Float32Array).length, 10_000_000);
  assert.ok(performance.now() - start < 50);
});
