/** The milliseconds for which `Retry-After` asks to wait, in seconds or until a date; neither above 0 nor a number where it asks for none. */
export declare function retryAfterOf({ headers }: Response, wall: number): number;
