import type { Environment } from './environment';
import type { Bytes } from './wire';
/** Carries frames, in order and without loss while it lives. A WebSocket is one. */
export interface Connection {
    /** Bytes that wait to be sent. Without it, bulk is not held back for interactive messages. */
    readonly bufferedAmount?: number;
    send(frame: Bytes): void;
    close(code: number): void;
}
/** What a connection reports; nothing follows `onclose`. An exception from `send` or from opening counts as a close, and so does opening that
 * returns nothing. An exception from `close` goes to the console. */
export interface ConnectionHandlers {
    /** Address of the session, with the scheme `http:` or `https:`. The last segment is the session's id. */
    readonly url: string;
    onopen(): void;
    onmessage(data: ArrayBuffer | Bytes): void;
    onclose(code?: number): void;
}
export type OpenConnection = (handlers: ConnectionHandlers) => Connection;
/** Registers a kind of connection, for pages whose server chose it. You may call it after `connect`. */
export declare function registerConnection(name: string, open: OpenConnection): void;
/** Calls `run` now, or when the kind is registered. Returns true if it was now. */
export declare function whenRegistered(name: string, run: (open: OpenConnection) => void): boolean;
/** Opens a connection of the default kind. */
export declare function openWebSocket({ WebSocket }: Environment, { url, onopen, onmessage, onclose }: ConnectionHandlers): Connection;
