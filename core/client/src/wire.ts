import { Code } from './codes';
import { Violation } from './errors';

/** 0 interactive, 1 bulk. */
export type Lane = 0 | 1;

/** Bytes that a socket takes and gives; never shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** The session's limits in bytes. The ticket and every welcome contain them. */
export interface Limits {
  fragment: number;
  message: number;
  inflated: number;
  window: number;
  bulkWindow: number;
}

/**
 * For each lane: how much the frame's sender has received (a sequence), and how much it grants (a
 * charge).
 */
export interface Counts {
  received: readonly [number, number];
  credit: readonly [number, number];
}

export enum Type {
  Hello = 0x01,
  Confirm = 0x02,
  Leave = 0x03,
  Offer = 0x10,
  Welcome = 0x11,
  End = 0x12,
  Ack = 0x20,
  Ping = 0x21,
  Pong = 0x22,
  Data = 0x40,
}

/** Flags of a data frame, added to its type; the first is the lane. */
export enum Flag {
  Bulk = 1,
  More = 2,
  Compressed = 4,
}

/** Charge of a data frame beyond its payload. */
export const FRAME_CHARGE = 64;

const TEXT_LIMIT = 512;

/** A frame that a server may send. */
export type ServerFrame =
  | { type: Type.Offer }
  | ({ type: Type.Welcome; incarnation: number; epoch: number; heartbeat: number; keep: number; limits: Limits } & Counts)
  | { type: Type.End; code: number; reason: number; retryAfter: number; text: string }
  | ({ type: Type.Ack } & Counts)
  | ({ type: Type.Ping | Type.Pong; nonce: number } & Counts)
  | { type: Type.Data; flags: number; sequence: number; payload: Bytes };

/** Encodes a frame: its type, the raw bytes before its numbers, its numbers, and its payload. */
export function encode(type: number, numbers: readonly number[] = [], payload: Uint8Array | never[] = [], before: readonly number[] = []): Bytes {
  const head = [type, ...before];
  for (const number of numbers) pushNumber(head, number);
  const frame = new Uint8Array(head.length + payload.length);
  frame.set(head);
  frame.set(payload, head.length);
  return frame;
}

/**
 * Decodes a frame from the server. Payloads are views of `bytes`. Throws a `Violation` with code
 * Malformed.
 */
export function decode(bytes: Bytes): ServerFrame {
  let at = 1;

  const varint = (): number => takeNumber(() => bytes[at++] ?? malformed(), malformed);
  const pair = (): [number, number] => [varint(), varint()];
  const counts = (): Counts => ({ received: pair(), credit: pair() });
  const whole = <T>(frame: T): T => (at === bytes.length ? frame : malformed());

  const type = bytes[0] ?? malformed();
  switch (type) {
    case Type.Offer:
      return whole({ type });
    case Type.Welcome:
      return whole({
        type,
        incarnation: varint(),
        epoch: varint(),
        ...counts(),
        heartbeat: varint(),
        keep: varint(),
        limits: { fragment: varint(), message: varint(), inflated: varint(), window: varint(), bulkWindow: varint() },
      });
    case Type.End:
      return { type, code: varint(), reason: varint(), retryAfter: varint(), text: decodeText(bytes.subarray(at)) };
    case Type.Ack:
      return whole({ type, ...counts() });
    case Type.Ping:
    case Type.Pong:
      return whole({ type, nonce: varint(), ...counts() });
  }
  if (type >> 3 !== Type.Data >> 3) malformed();
  return { type: Type.Data, flags: type & 7, sequence: varint() || malformed(), payload: bytes.subarray(at) };
}

/** Appends a number as a varint. */
export function pushNumber(bytes: number[], number: number): void {
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
  bytes.push(number);
}

/** Decodes a varint from the bytes that `next` returns. Calls `bad` if it is too long or too large. */
export function takeNumber(next: () => number, bad: () => never): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 56; scale *= 128) {
    const byte = next();
    value += (byte & 127) * scale;
    // A last byte of 0 adds nothing, so the encoding is too long.
    if (byte < 128) return (byte || scale === 1) && value < 2 ** 53 ? value : bad();
  }
  return bad();
}

function decodeText(bytes: Bytes): string {
  if (bytes.length <= TEXT_LIMIT) {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      // The text is not UTF-8.
    }
  }
  return malformed();
}

function malformed(): never {
  throw new Violation(Code.Malformed, 'malformed frame');
}
