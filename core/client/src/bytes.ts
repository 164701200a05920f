import type { Bytes } from './wire';

/** Bytes to send. The client copies them. */
export type Data = ArrayBuffer | ArrayBufferView;

/** Returns all parts in one new buffer. */
export function join(parts: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((size, { length }) => size + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Returns a view of the data's bytes. Throws a `TypeError` that says what `send` takes instead. */
export function viewOf(data: Data, takes: string): Uint8Array {
  if ((data as Data | undefined)?.byteLength === undefined) throw new TypeError(`send() takes ${takes}.`);
  return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
}
