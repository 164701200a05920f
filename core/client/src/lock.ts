import type { Locks } from './environment';

/** Releases a lock. */
export type Release = () => void;

/** Takes the Web Lock of this name. Returns undefined if another document holds it. */
export function lock(locks: Locks, name: string): Promise<Release | undefined> {
  return new Promise((resolve, reject) => {
    const hold = (granted: object | null): Promise<void> | undefined => (granted ? new Promise<void>(resolve) : void resolve(undefined));
    locks.request(name, { ifAvailable: true }, hold).catch(reject);
  });
}
