/** Exponential back-off with full jitter, in milliseconds. */
export declare class Backoff {
    #private;
    /** Number of waits since the last success. At 0 the next attempt is made at once. */
    waits: number;
    constructor(growth?: number);
    next(random: () => number, cap?: number): number;
}
