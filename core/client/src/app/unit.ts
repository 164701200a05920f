// The envelope of a message: what it is, and for whom (core/app/PROTOCOL.md).

import { type Bytes, pushNumber, takeNumber } from '../wire';
import { Undecodable } from './undecodable';

/** What a unit is: its first byte. */
export enum Kind {
  Bytes,
  Text,
  Message,
  Event,
  Call,
  Answer,
  Failure,
  Cancel,
  Set,
  Item,
  More,
  Error,
  Room,
  RoomEvent,
}

/** The fields between a unit's kind and its content. Which ones a kind has, `FIELDS` says. */
export interface Fields {
  /** Number of a call, chosen by its caller; or the member that sends an event of a room. */
  id?: number;
  /** Name of a room: 1 to 255 bytes of UTF-8. */
  room?: string;
  /** What a unit says about a room. */
  action?: number;
  /** Name of an event, a call or an observable: 1 to 255 bytes of UTF-8. */
  name?: string;
  /** Code of a failure. */
  code?: number;
  /** Number of items that a caller allows at first. */
  credit?: number;
  /** Number of further items that a caller allows. */
  count?: number;
  /** Number of the page's newest set of an observable. */
  number?: number;
}

type Field = keyof Fields;

/** The fields of each kind, in order. */
const FIELDS: readonly (readonly Field[])[] = [
  [],
  [],
  [],
  ['name'],
  ['id', 'credit', 'name'],
  ['id'],
  ['id', 'code'],
  ['id'],
  ['name', 'number'],
  ['id'],
  ['id', 'count'],
  [],
  ['room', 'action'],
  ['room', 'id', 'name'],
];

/** A received unit. Its content begins at `at` and is not decoded yet. */
export interface Unit extends Required<Fields> {
  readonly kind: Kind;
  readonly bytes: Bytes;
  readonly at: number;
}

/** Greatest length of a name in bytes of UTF-8. */
const NAME_LIMIT = 255;

/** Greatest length of a failure's text in bytes of UTF-8. */
export const FAILURE_LIMIT = 1024;

/** The greatest code of a failure. */
const LAST_CODE = 7;

/** The greatest number of what a unit says about a room. */
const LAST_ACTION = 8;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Returns the bytes of a unit up to its content. Throws a `RangeError` for a name that is empty or
 * too long.
 */
export function encodeHead(kind: Kind, fields: Fields = {}): number[] {
  const head: number[] = [kind];
  for (const field of FIELDS[kind]!) {
    if (field === 'name' || field === 'room') {
      const name = encoder.encode(fields[field]);
      if (!name.length || name.length > NAME_LIMIT) throw new RangeError(`A name has 1 to ${NAME_LIMIT} bytes, and not ${name.length}: ${fields[field]}`);
      head.push(name.length, ...name);
    } else if (field === 'code' || field === 'action') head.push(fields[field]!);
    else pushNumber(head, fields[field]!);
  }
  return head;
}

/** Decodes everything but the content of a server's unit. Throws `Undecodable`. */
export function decodeUnit(bytes: Bytes): Unit {
  let at = 1;
  const byte = (): number => bytes[at++] ?? broken('it ends too early');
  const varint = (): number => takeNumber(byte, () => broken('it has a bad number'));
  const name = (): string => {
    const length = byte();
    const end = at + length;
    if (!length || end > bytes.length) broken('it has no name');
    return decodeText(bytes, at, (at = end));
  };

  const kind = bytes[0] as Kind | undefined;
  const unit = { kind: kind!, bytes, id: 0, room: '', action: 0, name: '', code: 0, credit: 0, count: 0, number: 0 };
  for (const field of (kind !== undefined && FIELDS[kind]) || broken(`its kind is ${kind}`)) {
    if (field === 'name' || field === 'room') unit[field] = name();
    else unit[field] = field === 'code' || field === 'action' ? byte() : varint();
  }
  const rest = bytes.length - at;
  const { code, action } = unit;
  const isTooLong = rest > (kind === Kind.Failure ? FAILURE_LIMIT : kind === Kind.Cancel || kind === Kind.More ? 0 : Infinity);
  const isUnknown = kind === Kind.Error || (kind === Kind.Failure && !code) || code > LAST_CODE || action > LAST_ACTION;
  if (isTooLong || isUnknown) broken(`as kind ${kind} it is ${isTooLong ? 'too long' : 'unknown'}`);
  return { ...unit, at };
}

/** Returns the text in UTF-8, cut off between two characters if it is longer than `limit` bytes. */
export function encodeText(text: string, limit = Infinity): Bytes {
  if (limit === Infinity) return encoder.encode(text);
  const bytes = new Uint8Array(limit);
  return bytes.subarray(0, encoder.encodeInto(text, bytes).written);
}

/** Decodes UTF-8. Throws `Undecodable` for anything else. */
export function decodeText(bytes: Bytes, from: number, to = bytes.length): string {
  try {
    return decoder.decode(bytes.subarray(from, to));
  } catch {
    return broken('its text is not UTF-8');
  }
}

function broken(why: string): never {
  throw new Undecodable(`A unit breaks the rules of the protocol: ${why}.`);
}
