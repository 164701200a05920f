// JSON in which 64-bit integers are exact: an integer that a number cannot hold is a bigint.

import type { Bytes } from '../wire';
import { Undecodable } from './undecodable';
import { decodeText } from './unit';

const encoder = new TextEncoder();

/**
 * Marks the digits of a bigint in a string, until they are out of JSON or in it. It differs from
 * page to page, so that no peer can send a string that begins with it.
 */
const MARK = `\u2063${Math.random().toString(36).slice(2)}:`;
/** A marked bigint as it stands in JSON. */
const MARKED = new RegExp(`"${MARK}(-?\\d+)"`, 'g');
/** A string or a number. What a number contains is checked afterwards, by `JSON.parse`. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;
/** What only `parseExactly` handles: a long integer, or half a surrogate pair. */
const SPECIAL = /\d{16}|\\u[dD]/;
/** Half a surrogate pair: UTF-8 has no such character. */
const LONE = /\p{Surrogate}/u;
const LONG_INTEGER = /^-?[1-9]\d{15,}$/;

/**
 * Encodes a value as JSON. Bigints become numbers with all their digits. Throws a `TypeError` for a
 * value with a cycle, and a `RangeError` for one that is nested more deeply than `depth`.
 */
export function encodeJson(value: unknown, depth: number): Bytes {
  const bytes = encoder.encode(textOf(value) ?? 'null');
  if (depthOf(bytes) > depth) throw new RangeError(`The value is nested more than ${depth} levels deep.`);
  return bytes;
}

function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch (error) {
    let isMarked = false;
    const mark = (_key: string, value: unknown): unknown => {
      if (typeof value !== 'bigint') return value;
      isMarked = true;
      return `${MARK}${value}`;
    };
    const text = JSON.stringify(value, mark) as string | undefined;
    if (!isMarked) throw error;
    return text?.replace(MARKED, '$1');
  }
}

/** Decodes JSON. Throws `Undecodable`, also for a value nested more deeply than `depth`. */
export function decodeJson(bytes: Bytes, depth: number): unknown {
  if (depthOf(bytes) > depth) throw new Undecodable(`A value is nested more than ${depth} levels deep.`);
  const text = decodeText(bytes, 0);
  try {
    return SPECIAL.test(text) ? parseExactly(text) : JSON.parse(text);
  } catch (error) {
    throw new Undecodable(`A value is not JSON: ${(error as Error).message}`);
  }
}

/** Parses JSON that may have integers of over 53 bits. Refuses halves of surrogate pairs. */
function parseExactly(text: string): unknown {
  const marked = text.replace(TOKENS, (token) => (isBig(token) ? `"${MARK}${token}"` : token));
  return JSON.parse(marked, (key, value: unknown) => {
    if (LONE.test(key) || (typeof value === 'string' && LONE.test(value))) throw new SyntaxError('half a surrogate pair');
    return typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
  });
}

function isBig(token: string): boolean {
  return LONG_INTEGER.test(token) && !Number.isSafeInteger(Number(token));
}

/** Returns how deeply the arrays and objects of a JSON text are nested. */
function depthOf(bytes: Bytes): number {
  let depth = 0;
  let most = 0;
  let isString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === 0x22) isString = !isString;
    else if (isString) at += byte === 0x5c ? 1 : 0;
    else if (byte === 0x5b || byte === 0x7b) most = Math.max(most, ++depth);
    else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  return most;
}
