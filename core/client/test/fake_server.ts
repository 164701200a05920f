// A fake server side of a connection, controlled frame by frame.

import type { OpenTicket } from '../src/ticket';
import { type Bytes, encode, Flag, type Lane, type Limits, Type } from '../src/wire';
import type { FakeSocket } from './fake_page';

export const LIMITS: Limits = { fragment: 1000, message: 5000, inflated: 20_000, window: 8000, bulkWindow: 8000 };

export function ticketOf(name: string, members: Partial<OpenTicket> = {}): OpenTicket {
  const secret = Buffer.alloc(32, name).toString('base64url');
  return { protocol: 'stillhere.v1', url: `/stillhere/${name}`, id: name, secret, limits: LIMITS, ...members };
}

export interface Hello {
  secret: string;
  document: string;
  incarnation: number;
  attempt: number;
  counts: number[];
}

export function readHello(frame: Bytes | undefined): Hello {
  if (frame?.[0] !== Type.Hello) throw new Error(`no hello but ${frame}`);
  const hex = (from: number, to: number): string => Buffer.from(frame.subarray(from, to)).toString('hex');
  const [incarnation, attempt, ...counts] = readNumbers(frame.subarray(49));
  return { secret: Buffer.from(frame.subarray(1, 33)).toString('base64url'), document: hex(33, 49), incarnation: incarnation!, attempt: attempt!, counts };
}

export function readNumbers(bytes: Bytes): number[] {
  const numbers: number[] = [];
  let value = 0;
  let scale = 1;
  for (const byte of bytes) {
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte > 127) continue;
    numbers.push(value);
    value = 0;
    scale = 1;
  }
  return numbers;
}

export interface Welcome {
  incarnation?: number;
  received?: readonly [number, number];
  heartbeat?: number;
  keep?: number;
  limits?: Limits;
}

/** Opens the socket, reads the hello and sends a welcome. */
export function accept(socket: FakeSocket, welcome: Welcome = {}): Hello {
  socket.open();
  const hello = readHello(socket.read()[0]);
  socket.receive(encodeWelcome(welcome));
  return hello;
}

export function encodeWelcome({ incarnation = 1, received = [0, 0], heartbeat = 15_000, keep = 120_000, limits = LIMITS }: Welcome = {}): Bytes {
  const { fragment, message, inflated, window, bulkWindow } = limits;
  const counts = [...received, 1_000_000, 1_000_000];
  return encode(Type.Welcome, [incarnation, 1, ...counts, heartbeat, keep, fragment, message, inflated, window, bulkWindow]);
}

export function encodeData(sequence: number, payload: Uint8Array | string, { lane = 0, compressed = false }: { lane?: Lane; compressed?: boolean } = {}): Bytes {
  return encode(Type.Data + lane + (compressed ? Flag.Compressed : 0), [sequence], Buffer.from(payload));
}

export function encodePing(nonce: number): Bytes {
  return encode(Type.Ping, [nonce, 0, 0, 1_000_000, 1_000_000]);
}

export function encodeEnd(code: number, reason = 0, retryAfter = 0, text = ''): Bytes {
  return encode(Type.End, [code, reason, retryAfter], Buffer.from(text));
}

/** Returns the payloads of the data frames among these frames. */
export function payloadsOf(frames: readonly Bytes[]): string[] {
  return frames.filter((frame) => frame[0]! >= Type.Data).map((frame) => Buffer.from(frame.subarray(2)).toString());
}

export function typesOf(frames: readonly Bytes[]): number[] {
  return frames.map((frame) => frame[0]!);
}
