import type { Environment } from './environment';

/** Minimum gain of the wall clock over the steady clock, in milliseconds, that counts as sleep. */
const SLEEP = 1000;

/**
 * A clock in milliseconds that never goes backwards and keeps counting while the computer sleeps.
 *
 * `performance.now()` stops during sleep on some systems, and `Date.now()` jumps when the time is
 * set. So this clock adds every forward jump of the wall clock to the steady clock. It ignores
 * smaller steps, because the rounding errors of the wall clock would add up. Setting the wall clock
 * forward looks like sleep and costs one ping; setting it back changes nothing.
 */
export function sleepAwareClock({ Date, performance }: Pick<Environment, 'Date' | 'performance'>): () => number {
  let slept = 0;
  let lead = Date.now() - performance.now();
  return () => {
    const steady = performance.now();
    const before = lead;
    lead = Date.now() - steady;
    if (lead - before > SLEEP) slept += lead - before;
    return steady + slept;
  };
}
