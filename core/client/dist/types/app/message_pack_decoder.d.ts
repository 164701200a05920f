import type { Bytes } from '../wire';
/**
 * Decodes one value. `bin` becomes a `Uint8Array` of its own, a map an object, and an integer that
 * a number cannot hold a bigint. Throws `Undecodable`, also for extensions and for a value nested
 * more deeply than `depth`.
 */
export declare function decodeMessagePack(bytes: Bytes, depth: number): unknown;
