import { Code } from './codes';
import type { Environment } from './environment';
import type { Bytes } from './wire';
/**
 * Inflates a message (zlib, RFC 1950) to at most `limit` bytes, or returns the code for its defect.
 *
 * The browser rejects bytes after the end, as the DecompressionStream standard requires.
 */
export declare function inflate(payload: Bytes, limit: number, { DecompressionStream }: Pick<Environment, 'DecompressionStream'>): Promise<Bytes | Code>;
