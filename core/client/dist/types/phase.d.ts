import type { Connected } from './connected';
/**
 * A phase of the document with the state that exists only in it. `connection` is the one in use, or
 * 0.
 */
export type State = Unconnected | Attempt | Connected | Wait;
export type Phase = State['phase'];
/** Phases before the start, after the page went away, and after the end of the session. */
export interface Unconnected {
    phase: 'idle' | 'left' | 'over';
    /** Connection that is closed with `code` once `leave` is written on it. */
    connection: number;
    readonly code: number;
}
/** Phases in which the server has not yet welcomed the document on this connection. */
export interface Attempt {
    phase: 'connecting' | 'hello' | 'offered';
    readonly connection: number;
    /** True until the hello or confirm of this phase is written. */
    isDue: boolean;
    /** When the document abandons this connection. */
    deadline: number;
}
/** Phases between two attempts. */
export interface Wait {
    /**
     * `resting`: the page has been hidden for so long that it does not try again until it is shown.
     */
    phase: 'waiting' | 'resting';
    readonly connection: 0;
    /** When the next attempt is due. */
    readonly deadline: number;
    /** True if the server requested this wait. Waking the page then does not shorten it. */
    isLater: boolean;
}
