import type { Environment } from './environment';
/**
 * A clock in milliseconds that never goes backwards and keeps counting while the computer sleeps.
 *
 * `performance.now()` stops during sleep on some systems, and `Date.now()` jumps when the time is
 * set. So this clock adds every forward jump of the wall clock to the steady clock. It ignores
 * smaller steps, because the rounding errors of the wall clock would add up. Setting the wall clock
 * forward looks like sleep and costs one ping; setting it back changes nothing.
 */
export declare function sleepAwareClock({ Date, performance }: Pick<Environment, 'Date' | 'performance'>): () => number;
