import { join } from './bytes';
import { Code } from './codes';
import type { Environment } from './environment';
import type { Bytes } from './wire';

/**
 * Number of compressed bytes inflated at a time. A browser inflates its whole input before the size
 * can be checked, and the output may be a thousand times as long.
 */
const SLICE = 8192;

/**
 * Inflates a message (zlib, RFC 1950) to at most `limit` bytes, or returns the code for its defect.
 *
 * The browser rejects bytes after the end, as the DecompressionStream standard requires.
 */
export async function inflate(
  payload: Bytes,
  limit: number,
  { DecompressionStream }: Pick<Environment, 'DecompressionStream'>,
): Promise<Bytes | Code> {
  try {
    const { readable, writable } = new DecompressionStream!('deflate');
    feed(writable.getWriter(), payload).catch(() => {}); // the reader reports the failure
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
