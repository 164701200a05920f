import type { Environment } from './environment';
/** What stands between the page and its session, as far as a browser shows it. */
export interface Obstacle {
    /**
     * `unreachable`: the request failed; `silent`: no answer; `redirected`: to a login page, most
     * likely; `refused`: by the HTTP status `status`; `foreign`: an answer that is not the server's,
     * of a captive portal for one; `too-large`: a POST that cannot be made smaller was refused with
     * 413.
     */
    readonly kind: 'unreachable' | 'silent' | 'redirected' | 'refused' | 'foreign' | 'too-large';
    /** The HTTP status, 0 where there is none to be seen. */
    readonly status: number;
    /** What it is and what helps, for whoever runs the application. */
    readonly text: string;
}
/** What was last met, and what of it the console has been told. */
export declare class Obstacles {
    #private;
    constructor({ console }: Environment);
    get current(): Obstacle | null;
    /** An attempt got no answer at all. */
    meetNone(isSilent: boolean, url: string): void;
    /** The answer to a POST that is none of the server's. */
    meetAnswer({ type, status, headers }: Response, url: string): void;
    /** One of these bytes, as small as one frame lets it be, was refused with 413. */
    meetTooLarge(size: number, url: string): void;
    /** The server is heard from. What is too large for a POST is so still, unless `isAll`. */
    clear(isAll: boolean): void;
}
