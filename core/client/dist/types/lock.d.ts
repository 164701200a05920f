import type { Locks } from './environment';
/** Releases a lock. */
export type Release = () => void;
/** Takes the Web Lock of this name. Returns undefined if another document holds it. */
export declare function lock(locks: Locks, name: string): Promise<Release | undefined>;
