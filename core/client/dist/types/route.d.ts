import type { Environment } from './environment';
export declare const STREAMED = "streamed";
export declare const POLLED = "polled";
/**
 * A connection whose first bytes arrived within this many milliseconds of its end also had a short
 * life: something held them back.
 */
export declare const HELD_BACK = 100;
/**
 * Chooses the kind of connection for the next attempt: the best one over which the server answers.
 * Until one is known, it tries each in turn.
 */
export declare class Route {
    #private;
    constructor(preferred: string | undefined, environment: Environment);
    get kind(): string;
    /** Returns true if no later kind might do better. */
    get isLast(): boolean;
    /**
     * Returns how long the attempt may wait for an answer. For a registered kind, only the machine's
     * deadlines apply.
     */
    get patience(): number;
    /** Records that the attempt ended without an answer; `isSilent` if it reached its deadline. */
    fail(isSilent: boolean, now: number): void;
    /** Records that the attempt was answered. */
    succeed(now: number): void;
    /**
     * Records the loss of an answered connection after `life` milliseconds and `bytes` bytes from the
     * server.
     */
    lose(life: number, bytes: number, now: number): void;
    /** Forbids POSTs for `wait` milliseconds. */
    holdPosts(wait: number, now: number): void;
    /** Returns how long POSTs stay forbidden if no other kind is likely to work; otherwise 0. */
    wait(now: number): number;
    /** Returns when a better kind is to be tried beside the one in use. */
    get nextTrial(): number;
    /** Returns the best kind that is due for a trial. It is then not due for a while. */
    takeTrial(now: number): string | undefined;
    /** Switches to a kind over which the server answered in a trial. */
    move(kind: string): void;
    /**
     * Forgets failures, because the network has changed or the user or the application requests an
     * attempt (`isAsked`): what failed before may work now.
     */
    reset(now: number, isAsked: boolean): void;
}
/** Returns true if this kind uses POSTs. */
export declare function isPosted(kind: string): boolean;
