import { Code } from './codes';
import type { Environment } from './environment';
import type { Bytes } from './wire';
/**
 * Inflates a message (zlib, RFC 1950) to at most `limit` bytes, or tells what is wrong with it.
 *
 * That bytes after the end are an error is the browser's doing: the standard of DecompressionStream
 * demands it.
 */
export declare function inflate(payload: Bytes, limit: number, { DecompressionStream }: Pick<Environment, 'DecompressionStream'>): Promise<Bytes | Code>;
