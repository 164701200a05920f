/**
 * Returns how many milliseconds `Retry-After` asks to wait, given in seconds or as a date. The
 * result is not positive, or is NaN, if it asks for no wait.
 */
export declare function retryAfterOf({ headers }: Response, wall: number): number;
