// The golden units of core/app/vectors, which the Rust half reads too.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { decodeUnit, decodeText, encodeHead, encodeText, type Fields, Kind } from '../../src/app/unit';
import { type Codec, withContent } from '../../src/app/value';
import type { Bytes } from '../../src/wire';
import { decodeValue, encodeValue } from './every_piece';

interface Value {
  format: string;
  json?: string;
  bytes?: string;
  elements?: string[];
}

interface Model {
  kind: string;
  name?: string;
  room?: string;
  action?: number;
  id?: number;
  credit?: number;
  count?: number;
  number?: number;
  code?: string;
  text?: string;
  bytes?: string;
  value?: Value;
}

const { units, malformed, undecodable } = JSON.parse(readFileSync(new URL('../../app/vectors/units.json', import.meta.url), 'utf8')) as {
  units: { name: string; hex: string; direction: string; unit: Model }[];
  malformed: { name: string; hex: string; sentBy: string }[];
  undecodable: { name: string; hex: string }[];
};

const ARRAYS = { u8: Uint8Array, i8: Int8Array, u16: Uint16Array, i16: Int16Array, u32: Uint32Array, i32: Int32Array, f32: Float32Array, f64: Float64Array };
const BIG_ARRAYS = { u64: BigUint64Array, i64: BigInt64Array };
const CODES = ['', 'failed', 'rejected', 'missing', 'undecodable', 'cancelled', 'busy', 'streamed'];

const bytesOf = (hex: string): Bytes => Uint8Array.from(Buffer.from(hex, 'hex'));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const kindOf = (name: string): Kind => Kind[(name[0]!.toUpperCase() + name.slice(1)) as keyof typeof Kind];

/** Returns what the page has for a value of the vectors. */
function valueOf({ format, json, bytes, elements }: Value): unknown {
  if (format === 'empty') return null;
  if (json !== undefined) return /^-?\d{16,}$/.test(json) ? BigInt(json) : JSON.parse(json);
  if (bytes !== undefined) return bytesOf(bytes);
  const big = BIG_ARRAYS[format as keyof typeof BIG_ARRAYS];
  return big ? big.from(elements!.map(BigInt)) : ARRAYS[format as keyof typeof ARRAYS].from(elements!.map(Number));
}

function encoded({ kind, code, text, bytes, value, ...rest }: Model): Bytes {
  const head = encodeHead(kindOf(kind), { ...rest, code: CODES.indexOf(code ?? '') } as Fields);
  if (!value) return withContent(head, text === undefined ? bytesOf(bytes ?? '') : encodeText(text));
  if (value.format === 'empty') return withContent(head, new Uint8Array());
  // Bytes alone are an array of u8 to the page; MessagePack has them inside values.
  if (value.bytes) return withContent([...head, 1, 0xc4, value.bytes.length / 2], bytesOf(value.bytes));
  return encodeValue(head, valueOf(value), value.format as Codec);
}

test('there are vectors', () => assert.ok(units.length > 60 && malformed.length > 30 && undecodable.length > 20));

for (const { name, hex, direction, unit } of units) {
  test(`a unit is encoded exactly and decoded: ${name}`, () => {
    assert.equal(hexOf(encoded(unit)), hex);
    if (direction === 'page') return;
    const { kind, at, ...fields } = decodeUnit(bytesOf(hex));
    assert.equal(kind, kindOf(unit.kind));
    for (const field of ['name', 'room', 'id', 'action', 'credit', 'count', 'number'] as const) assert.equal(fields[field], unit[field] ?? (field === 'name' || field === 'room' ? '' : 0));
    if (unit.code) assert.equal(CODES[fields.code], unit.code);
    if (unit.text !== undefined) assert.equal(decodeText(bytesOf(hex), at), unit.text);
    if (unit.bytes !== undefined) assert.equal(hexOf(bytesOf(hex).subarray(at)), unit.bytes);
    if (unit.value) assert.deepEqual(decodeValue(bytesOf(hex), at), valueOf(unit.value));
  });
}

for (const { name, hex } of malformed) {
  test(`a malformed unit is refused: ${name}`, () => {
    assert.throws(() => {
      const unit = decodeUnit(bytesOf(hex));
      if (unit.kind === Kind.Text || unit.kind === Kind.Failure) decodeText(unit.bytes, unit.at);
    }, { name: 'Undecodable' });
  });
}

for (const { name, hex } of undecodable) {
  test(`a value is refused, and its unit is not: ${name}`, () => {
    const unit = decodeUnit(bytesOf(hex));
    assert.throws(() => decodeValue(unit.bytes, unit.at), { name: 'Undecodable' });
  });
}
