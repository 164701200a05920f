/** Pings of the current connection and their round trips. */
export declare class Pings {
    #private;
    /** True if a ping must be written. One ping serves all requests so far. */
    isDue: boolean;
    /** Requests a ping and returns the nonce of its answer. */
    ask(): number;
    /** Returns the nonce of the ping that is being written. */
    write(now: number): number;
    /**
     * Removes the answered pings and returns them with their round trips. A pong answers all earlier
     * pings too.
     */
    settle(nonce: number, now: number): {
        nonce: number;
        roundTrip: number;
    }[];
    /** Forgets the pings of a connection that is no longer in use. */
    forget(): void;
}
