import type { Locks } from './environment';
/** Lets go of what was taken. */
export type Release = () => void;
/** Takes the Web Lock of this name; undefined if somebody has it. */
export declare function lock(locks: Locks, name: string): Promise<Release | undefined>;
