import type { Environment } from './environment';
/**
 * A clock in milliseconds that never goes back and goes on while the machine sleeps.
 *
 * `performance.now()` stops during sleep on some systems, `Date.now()` jumps when somebody sets it.
 * So this is the steady clock plus every forward jump of the wall clock over it; smaller steps are
 * left out, or the wall clock's rounding would add up. A wall clock set forward looks like sleep
 * and costs one ping; one set back changes nothing.
 */
export declare function sleepAwareClock({ Date, performance }: Pick<Environment, 'Date' | 'performance'>): () => number;
