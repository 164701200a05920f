import { join } from './bytes';
import { Code } from './codes';
import type { Environment } from './environment';
import type { Bytes } from './wire';

/**
 * Number of compressed bytes that are inflated at a time. A browser inflates all that it is given
 * before the result can be checked, at worst a thousandfold.
 */
const SLICE = 8192;

/**
 * Inflates a message (zlib, RFC 1950) to at most `limit` bytes, or tells what is wrong with it.
 *
 * That bytes after the end are an error is the browser's doing: the standard of DecompressionStream
 * demands it.
 */
export async function inflate(
  payload: Bytes,
  limit: number,
  { DecompressionStream }: Pick<Environment, 'DecompressionStream'>,
): Promise<Bytes | Code> {
  try {
    const { readable, writable } = new DecompressionStream!('deflate');
    feed(writable.getWriter(), payload).catch(() => {}); // the reader fails with it
    const reader = readable.getReader();
    const chunks: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return join(chunks);
      chunks.push(value);
      length += value.length;
      if (length > limit) {
        reader.cancel().catch(() => {});
        return Code.TooLarge;
      }
    }
  } catch {
    return Code.Malformed;
  }
}

async function feed(writer: WritableStreamDefaultWriter<Bytes>, payload: Bytes): Promise<void> {
  for (let at = 0; at < payload.length; at += SLICE) await writer.write(payload.subarray(at, at + SLICE));
  await writer.close();
}
