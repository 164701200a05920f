import type { Connected } from './connected';
/** The phase of a document with the state that has a meaning in it alone; `connection` is the one in use, or 0. */
export type State = Unconnected | Attempt | Connected | Wait;
export type Phase = State['phase'];
/** The document has not started, its page went away, or its session is over. */
export interface Unconnected {
    phase: 'idle' | 'left' | 'over';
    /** This connection is closed with `code` as soon as `leave` is written on it. */
    connection: number;
    readonly code: number;
}
/** The server has not welcomed the document on this connection yet. */
export interface Attempt {
    phase: 'connecting' | 'hello' | 'offered';
    readonly connection: number;
    /** The hello or the confirm of this phase is still to be written. */
    isDue: boolean;
    /** When the document gives this connection up. */
    deadline: number;
}
/** The time between two attempts. */
export interface Wait {
    /** A page rests if it stays hidden for so long that it does not try again until it is shown. */
    phase: 'waiting' | 'resting';
    readonly connection: 0;
    /** When the next attempt is due. */
    readonly deadline: number;
    /** The server asked for this wait, so waking the page does not cut it short. */
    isLater: boolean;
}
