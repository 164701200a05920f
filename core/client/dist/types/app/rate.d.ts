/** Allows so many events in each minute. */
export declare class Rate {
    #private;
    /** `now` is a clock in milliseconds. */
    constructor(most: number, now: () => number);
    /** Returns true if one more is allowed now. */
    take(): boolean;
}
