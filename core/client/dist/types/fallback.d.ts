import type { Environment } from './environment';
import type { Connection, ConnectionHandlers } from './kinds';
import type { Posts } from './posts';
import type { Bytes } from './wire';
/**
 * A connection over HTTP requests, for networks that block WebSockets (PROTOCOL.md, section 16).
 */
export declare class Fallback implements Connection {
    #private;
    bufferedAmount: number;
    constructor(kind: string, environment: Environment, handlers: ConnectionHandlers, posts: Posts);
    /** Kind of this connection. It polls if enough other tabs already stream. */
    get kind(): string;
    send(frame: Bytes): void;
    close(): void;
}
