import type { Environment } from './environment';
import type { Bytes } from './wire';
/** Carries frames in order and, while it is open, without loss. A WebSocket is one. */
export interface Connection {
    /**
     * Number of bytes waiting to be sent. If absent, bulk messages do not yield to interactive ones.
     */
    readonly bufferedAmount?: number;
    send(frame: Bytes): void;
    close(code: number): void;
}
/**
 * Callbacks of a connection; none is called after `onclose`. An exception from `send` or from the
 * opening function counts as a close, and so does an opening function that returns nothing. An
 * exception from `close` goes to the console.
 */
export interface ConnectionHandlers {
    /**
     * Address of the session, with the scheme `http:` or `https:`. The last segment is the session's
     * id.
     */
    readonly url: string;
    onopen(): void;
    onmessage(data: ArrayBuffer | Bytes): void;
    onclose(code?: number): void;
}
export type OpenConnection = (handlers: ConnectionHandlers) => Connection;
/** Name of the default kind. */
export declare const WEB_SOCKET = "websocket";
/**
 * Registers a kind of connection, for pages whose server chose it. You may call it after `connect`.
 */
export declare function registerConnection(name: string, open: OpenConnection): void;
/** Calls `run` now, or when the kind is registered. Returns true if it called `run` now. */
export declare function whenRegistered(name: string, run: (open: OpenConnection) => void): boolean;
/** Opens a connection of the default kind. */
export declare function openWebSocket({ WebSocket }: Environment, { url, onopen, onmessage, onclose }: ConnectionHandlers): Connection;
