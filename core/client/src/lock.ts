import type { Locks } from './environment';

/** Lets go of what was taken. */
export type Release = () => void;

/** Takes the Web Lock of this name; undefined if somebody has it. */
export function lock(locks: Locks, name: string): Promise<Release | undefined> {
  return new Promise((resolve, reject) => {
    const hold = (granted: object | null): Promise<void> | undefined => (granted ? new Promise<void>(resolve) : void resolve(undefined));
    locks.request(name, { ifAvailable: true }, hold).catch(reject);
  });
}
