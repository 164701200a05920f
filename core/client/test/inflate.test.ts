import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { deflateRawSync, deflateSync } from 'node:zlib';

import { Code } from '../src/codes';
import type { Environment } from '../src/environment';
import { inflate } from '../src/inflate';
import type { Bytes } from '../src/wire';
import { FakePage } from './fake_page';

const page = new FakePage();
const compress = (data: Uint8Array): Bytes => new Uint8Array(deflateSync(data));
const noise = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, index) => (index * index * 31 + index) >> 3));

for (const length of [0, 1, 8192, 100_000]) {
  test(`${length} bytes are inflated to the original`, async () => {
    const result = await inflate(compress(noise(length)), length, page);
    assert.ok(result instanceof Uint8Array);
    assert.ok(noise(length).equals(result));
  });
}

test('one byte above the limit is too large', async () => {
  assert.equal(await inflate(compress(Buffer.alloc(1001)), 1000, page), Code.TooLarge);
});

for (const [name, payload] of [
  ['empty', new Uint8Array()],
  ['truncated', compress(noise(1000)).subarray(0, -1)],
  ['raw deflate', new Uint8Array(deflateRawSync(noise(1000)))],
  ['damaged', compress(noise(1000)).fill(85, 20, 40)],
] as const) {
  test(`a payload that is ${name} is malformed`, async () => {
    assert.equal(await inflate(payload, 10_000, page), Code.Malformed);
  });
}

test('a decompression bomb is abandoned before all of it is read', async () => {
  let taken = 0;
  const DecompressionStream = class {
    readonly readable: ReadableStream<Uint8Array>;
    readonly writable: WritableStream<Bytes>;
    constructor() {
      const { readable, writable } = new TransformStream<Bytes, Uint8Array>({
        transform(chunk, controller) {
          taken += chunk.length;
          controller.enqueue(new Uint8Array(chunk.length * 1000));
        },
      });
      this.readable = readable;
      this.writable = writable;
    }
  } as unknown as NonNullable<Environment['DecompressionStream']>;
  assert.equal(await inflate(new Uint8Array(1_000_000), 1_000_000, { DecompressionStream }), Code.TooLarge);
  assert.ok(taken <= 2 * 8192, `${taken} bytes taken`);
});

test('in a browser that cannot inflate, every compressed message is malformed', async () => {
  assert.equal(await inflate(compress(noise(10)), 10, {}), Code.Malformed);
});
