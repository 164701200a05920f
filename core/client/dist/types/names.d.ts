/** Returns the name of a code; empty for a code that is not the protocol's. */
export declare function nameOfCode(code: number): string;
/** Returns the name of a reason; empty for 0 and for a reason that is not the protocol's. */
export declare function nameOfReason(reason: number): string;
