import type { Environment } from './environment';
/** Describes what keeps the page from its session, as far as a browser shows it. */
export interface Obstacle {
    /**
     * `unreachable`: the request failed. `silent`: there was no answer. `redirected`: most likely to
     * a login page. `refused`: with the HTTP status `status`. `foreign`: the answer is not the
     * server's, but for example a captive portal's. `too-large`: a POST that cannot be made smaller
     * was refused with 413.
     */
    readonly kind: 'unreachable' | 'silent' | 'redirected' | 'refused' | 'foreign' | 'too-large';
    /** The HTTP status, or 0 if there was none. */
    readonly status: number;
    /** Says what the obstacle is and what helps, for the operator of the application. */
    readonly text: string;
}
/** Tracks the last obstacle and reports each one to the console once. */
export declare class Obstacles {
    #private;
    constructor({ console }: Environment);
    get current(): Obstacle | null;
    /** Records that an attempt got no answer at all. */
    meetNone(isSilent: boolean, url: string): void;
    /** Records an answer to a POST that did not come from the server. */
    meetAnswer({ type, status, headers }: Response, url: string): void;
    /** Records that a POST of this many bytes, a single frame, was refused with 413. */
    meetTooLarge(size: number, url: string): void;
    /** Clears the obstacle after the server answered; `too-large` only if `isAll`. */
    clear(isAll: boolean): void;
}
