/** Exponential back-off with full jitter, in milliseconds. */
export declare class Backoff {
    #private;
    /** Waits since the last success; at 0 the next attempt is at once. */
    waits: number;
    constructor(growth?: number);
    next(random: () => number, cap?: number): number;
}
