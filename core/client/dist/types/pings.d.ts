/** Pings of the connection in use without an answer. */
export declare class Pings {
    #private;
    /** One is to be written, which stands for all that were asked for. */
    isDue: boolean;
    /** Gives the nonce of the answer. */
    ask(): number;
    /** One is being written, with this nonce. */
    write(now: number): number;
    /** The server answers only the newest of several, so a pong settles all before it; gives them with their round trips. */
    settle(nonce: number, now: number): {
        nonce: number;
        roundTrip: number;
    }[];
    /** Another connection is in use. */
    forget(): void;
}
