/** Whether the page is seen, and what follows where it is not and has no connection. */
export declare class Presence {
    #private;
    /** How long the server keeps the session without a connection; unknown before the first welcome. */
    keep: number | undefined;
    /** When the connection was lost. */
    lostAt: number;
    /** True if the page came back. */
    handleHidden(hidden: boolean, now: number): boolean;
    /** When a page stays hidden and without a connection too long to go on. */
    get restAt(): number;
    /** The longest wait of a page that is not seen. */
    get backoffCap(): number | undefined;
}
