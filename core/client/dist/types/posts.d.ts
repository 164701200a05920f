import type { Environment } from './environment';
import type { Obstacles } from './obstacle';
import type { Bytes } from './wire';
/**
 * Sends POSTs to one session, and keeps what they showed about the network. It outlives the
 * connections that consist of them.
 */
export declare class Posts {
    #private;
    /** Maximum size of a POST in bytes, except for a POST with a single frame. */
    most: number;
    /** True if something other than the server has answered since this was set to false. */
    isAnswered: boolean;
    constructor(environment: Environment, obstacles: Obstacles);
    /**
     * Returns the server's answer, or `undefined` if something else answers. Throws if nothing does.
     * The body has `frames` frames.
     */
    send(url: string, body: Bytes, frames: number, options: RequestInit): Promise<Response | undefined>;
    /** Returns how long to wait before the next POST, and forgets it. */
    takeWait(): number;
}
/** Redirects are not followed, because no redirect leads to an answer of the server. */
export declare function post(environment: Environment, url: string, body: Bytes, options: RequestInit): Promise<Response>;
/** Returns true if the response carries frames. */
export declare function isServers({ status, headers }: Response): boolean;
