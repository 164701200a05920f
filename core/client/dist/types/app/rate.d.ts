import type { Environment } from '../environment';
/** Allows so many events in each minute. */
export declare class Rate {
    #private;
    constructor(most: number, environment: Pick<Environment, 'performance'>);
    /** Returns true if one more is allowed now. */
    take(): boolean;
}
