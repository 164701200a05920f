/** State of the newest of some calls. `answer` stays that of the last call that had one. */
export interface CallState<A> {
    readonly isPending: boolean;
    readonly answer: A | undefined;
    /** Why the newest call failed: a `CallError`, or what `AppSession.call` rejects with. */
    readonly error: unknown;
}
/** Follows calls for `useSyncExternalStore`. */
export declare class CallStore<A> {
    #private;
    readonly subscribe: (listener: () => void) => (() => void);
    readonly getSnapshot: () => CallState<A>;
    /** Shows the state of this call from now on, and returns the call. */
    follow(call: Promise<A>): Promise<A>;
}
