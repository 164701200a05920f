import type { Environment } from './environment';
import type { Connection, ConnectionHandlers } from './kinds';
import type { Bytes } from './wire';
/** A connection over HTTP requests, for networks that block WebSockets (PROTOCOL.md: the fallback). */
export declare class Fallback implements Connection {
    #private;
    bufferedAmount: number;
    constructor(environment: Environment, handlers: ConnectionHandlers);
    send(frame: Bytes): void;
    close(): void;
}
