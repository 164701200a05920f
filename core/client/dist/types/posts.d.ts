import type { Environment } from './environment';
import type { Obstacles } from './obstacle';
import type { Bytes } from './wire';
/**
 * Sends the POSTs of one session and remembers what they revealed about the network. It outlives
 * individual connections.
 */
export declare class Posts {
    #private;
    /** Maximum size of a POST in bytes, except for a POST with a single frame. */
    most: number;
    /** True if something other than the server has answered since this was set to false. */
    isAnswered: boolean;
    constructor(environment: Environment, obstacles: Obstacles);
    /**
     * Sends a POST whose body contains `frames` frames. Returns the server's answer, or `undefined`
     * if something else answers. Throws if there is no answer.
     */
    send(url: string, body: Bytes, frames: number, options: RequestInit): Promise<Response | undefined>;
    /** Returns the wait before the next POST and resets it. */
    takeWait(): number;
}
/** Sends a POST without following redirects, because none leads to an answer from the server. */
export declare function post(environment: Environment, url: string, body: Bytes, options: RequestInit): Promise<Response>;
/** Returns true if the response carries frames. */
export declare function isServers({ status, headers }: Response): boolean;
