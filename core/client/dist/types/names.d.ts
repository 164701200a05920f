/** Empty for a code that is not ours. */
export declare function nameOfCode(code: number): string;
/** Empty for a reason that is not ours, and for none. */
export declare function nameOfReason(reason: number): string;
