import type { Environment } from './environment';

/** Milliseconds that the wall clock must gain on the steady clock to count as sleep. */
const SLEEP = 1000;

/**
 * A clock in milliseconds that never goes back and goes on while the machine sleeps.
 *
 * `performance.now()` stops during sleep on some systems, `Date.now()` jumps when somebody sets it.
 * So this is the steady clock plus every forward jump of the wall clock over it; smaller steps are
 * left out, or the wall clock's rounding would add up. A wall clock set forward looks like sleep
 * and costs one ping; one set back changes nothing.
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
