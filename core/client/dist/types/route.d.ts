import type { Environment } from './environment';
export declare const WEB_SOCKET = "websocket";
export declare const FALLBACK = "http";
/** Which kind of connection the next attempt takes. */
export declare class Route {
    #private;
    constructor(preferred: string | undefined, environment: Environment);
    get kind(): string;
    /** The attempt is over and the server was not heard from. */
    fail(): void;
    /** The server was heard from. */
    succeed(): void;
    /** Begins anew with the first kind. */
    reset(): void;
}
