/** Tracks whether the page is visible, and slows the reconnects of a hidden page. */
export declare class Presence {
    #private;
    /**
     * How long the server keeps the session without a connection; undefined before the first welcome.
     */
    keep: number | undefined;
    /** When the last welcomed connection was lost. */
    lostAt: number;
    /** Returns true if the page was hidden and is visible again. */
    handleHidden(hidden: boolean, now: number): boolean;
    /** When a page that stays hidden and unconnected stops trying. */
    get restAt(): number;
    /** Maximum wait between two attempts; undefined for the default. */
    get backoffCap(): number | undefined;
}
