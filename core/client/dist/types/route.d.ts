import type { Environment } from './environment';
export declare const WEB_SOCKET = "websocket";
export declare const STREAMED = "streamed";
export declare const POLLED = "polled";
/** and so had one whose first bytes arrive only at its end: something held them back. */
export declare const HELD_BACK = 100;
/**
 * Chooses the kind of connection for the next attempt: the best one over which the server is heard.
 * Until one is known, it tries each in turn.
 */
export declare class Route {
    #private;
    constructor(preferred: string | undefined, environment: Environment);
    get kind(): string;
    /** Returns true if no later kind might do better. */
    get isLast(): boolean;
    /**
     * Returns how long the attempt may wait for an answer. A kind of the page's own has the machine's
     * deadlines.
     */
    get patience(): number;
    /** Notes that the attempt ended without an answer. `isSilent`: it had all its time. */
    fail(isSilent: boolean, now: number): void;
    /** Notes that the attempt was answered. */
    succeed(now: number): void;
    /**
     * Notes the loss of an answered connection after `life` milliseconds and `bytes` bytes from the
     * server.
     */
    lose(life: number, bytes: number, now: number): void;
    /** Notes that no POSTs may be sent for `wait` milliseconds. */
    holdPosts(wait: number, now: number): void;
    /** Returns how long the next attempt must wait because no other kind is more promising. */
    wait(now: number): number;
    /** Returns when a better kind is to be tried beside the one in use. */
    get nextTrial(): number;
    /** Returns the best kind that is due for a trial. It is then not due for a while. */
    takeTrial(now: number): string | undefined;
    /** Notes that the server was heard over this kind in a trial. */
    move(kind: string): void;
    /**
     * Notes that the network has changed, or that the user or the application asks for an attempt
     * (`isAsked`): what failed before may work now.
     */
    reset(now: number, isAsked: boolean): void;
}
/** Returns true if this kind uses POSTs. */
export declare function isPosted(kind: string): boolean;
