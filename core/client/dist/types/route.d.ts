import type { Environment } from './environment';
export declare const WEB_SOCKET = "websocket";
export declare const STREAMED = "streamed";
export declare const POLLED = "polled";
/** and one whose first bytes come with its end was held back on the way, however long it took. */
export declare const HELD_BACK = 100;
/** Which kind of connection the next attempt takes: the best that the server is heard over, tried in turn until then. */
export declare class Route {
    #private;
    constructor(preferred: string | undefined, environment: Environment);
    get kind(): string;
    /** There is no kind after this one that might do better. */
    get isLast(): boolean;
    /** How long the attempt may go without an answer. A kind of the page's own has the machine's time. */
    get patience(): number;
    /** The attempt is over and was not answered; `isSilent`: it had all its time. */
    fail(isSilent: boolean, now: number): void;
    /** The attempt was answered. */
    succeed(now: number): void;
    /** A connection that was answered is lost after `life` milliseconds and so many bytes from the server. */
    lose(life: number, bytes: number, now: number): void;
    /** POSTs are not wanted for `wait` milliseconds. */
    holdPosts(wait: number, now: number): void;
    /** How long the next attempt has to wait because no other kind promises more. */
    wait(now: number): number;
    /** When a better kind is to be tried beside the one in use. */
    get nextTrial(): number;
    /** The best kind that is due to be tried, which it is then not for a while. */
    takeTrial(now: number): string | undefined;
    /** The kind was heard over in a trial. */
    move(kind: string): void;
    /** The network has changed, or somebody says so (`isAsked`): what did not get through may do so now. */
    reset(now: number, isAsked: boolean): void;
}
/** The connection is made of POSTs. */
export declare function isPosted(kind: string): boolean;
