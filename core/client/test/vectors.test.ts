import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { Code } from '../src/codes';
import { Violation } from '../src/errors';
import { type Bytes, decode, encode, Flag, type ServerFrame, Type } from '../src/wire';
import { decodeFrame, encodeFrame, type ModelFrame, type Side } from './wire_model';

const { frames, malformed } = JSON.parse(readFileSync(new URL('../../vectors/frames.json', import.meta.url), 'utf8')) as {
  frames: { name: string; hex: string; direction: Side | 'both'; frame: ModelFrame }[];
  malformed: { name: string; hex: string; sentBy: Side; error: 'Malformed' | 'TooLarge' }[];
};

const bytesOf = (hex: string): Bytes => Uint8Array.from(Buffer.from(hex, 'hex'));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Returns a frame as decoded by the client, in the form of the vectors. */
function described(frame: ServerFrame): ModelFrame {
  switch (frame.type) {
    case Type.Offer:
      return { type: 'offer' };
    case Type.Welcome: {
      const { limits: { bulkWindow, ...limits }, type: _, received, credit, ...rest } = frame;
      return { type: 'welcome', ...rest, received: [...received], credit: [...credit], ...limits, bulk_window: bulkWindow };
    }
    case Type.End: {
      const { code, reason, retryAfter, text } = frame;
      return { type: 'end', code, reason, retry_after: retryAfter, text };
    }
    case Type.Ack:
      return { type: 'ack', received: [...frame.received], credit: [...frame.credit] };
    case Type.Ping:
    case Type.Pong:
      return { type: frame.type === Type.Ping ? 'ping' : 'pong', nonce: frame.nonce, received: [...frame.received], credit: [...frame.credit] };
    case Type.Data: {
      const { flags, sequence, payload } = frame;
      const lane = (flags & Flag.Bulk) as 0 | 1;
      return { type: 'data', lane, more: !!(flags & Flag.More), compressed: !!(flags & Flag.Compressed), sequence, payload: hexOf(payload) };
    }
  }
}

/** Encodes a frame of the vectors with the client's encoder. */
function encoded(frame: ModelFrame): Bytes {
  const counts = [...(frame.received ?? []), ...(frame.credit ?? [])];
  switch (frame.type) {
    case 'hello':
      return encode(Type.Hello, [frame.incarnation!, frame.attempt!, ...counts], [], [...bytesOf(frame.secret!), ...bytesOf(frame.document!)]);
    case 'confirm':
      return encode(Type.Confirm);
    case 'leave':
      return encode(Type.Leave);
    case 'ack':
      return encode(Type.Ack, counts);
    case 'ping':
      return encode(Type.Ping, [frame.nonce!, ...counts]);
    case 'pong':
      return encode(Type.Pong, [frame.nonce!, ...counts]);
    default: {
      const flags = frame.lane! + (frame.more ? Flag.More : 0) + (frame.compressed ? Flag.Compressed : 0);
      return encode(Type.Data + flags, [frame.sequence!], bytesOf(frame.payload!));
    }
  }
}

for (const { name, hex, direction, frame } of frames) {
  test(`a vector is decoded and encoded exactly: ${name}`, () => {
    if (direction !== 'client') assert.deepEqual(described(decode(bytesOf(hex))), frame);
    if (direction !== 'server') assert.equal(hexOf(encoded(frame)), hex);
    // The model used by the other tests covers both directions.
    assert.equal(hexOf(encodeFrame(frame)), hex);
    assert.deepEqual(decodeFrame(bytesOf(hex), direction === 'both' ? 'client' : direction), frame);
  });
}

for (const { name, hex, sentBy, error } of malformed) {
  test(`a malformed vector is refused: ${name}, sent by the ${sentBy}`, () => {
    assert.throws(() => decodeFrame(bytesOf(hex), sentBy), { message: error });
    if (sentBy === 'server') assert.throws(() => decode(bytesOf(hex)), (thrown) => thrown instanceof Violation && thrown.code === Code[error]);
  });
}

test('a payload is a view of its frame', () => {
  const bytes = bytesOf('40016869');
  const frame = decode(bytes);
  assert.equal(frame.type === Type.Data && frame.payload.buffer, bytes.buffer);
});
