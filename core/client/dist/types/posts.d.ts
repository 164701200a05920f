import type { Environment } from './environment';
import type { Obstacles } from './obstacle';
import type { Bytes } from './wire';
/** POSTs to one session, and what has been learnt of the way they take; it outlives the connections that are made of them. */
export declare class Posts {
    #private;
    /** Bytes that a POST may have, unless it has one frame only. */
    most: number;
    /** Somebody else has answered since it was set to false. */
    isAnswered: boolean;
    constructor(environment: Environment, obstacles: Obstacles);
    /** The server's answer, or `undefined` if it is not the server who answers; throws if nobody does. So many frames are in the body. */
    send(url: string, body: Bytes, frames: number, options: RequestInit): Promise<Response | undefined>;
    /** How long to wait before the next POST; asked once. */
    takeWait(): number;
}
/** A redirect is not followed: a page that is reached so is no answer. */
export declare function post(environment: Environment, url: string, body: Bytes, options: RequestInit): Promise<Response>;
/** It carries frames. */
export declare function isServers({ status, headers }: Response): boolean;
