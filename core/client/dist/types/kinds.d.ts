import type { Environment } from './environment';
import type { Bytes } from './wire';
/** What carries frames for a while: ordered and reliable as long as it lives. A WebSocket is one. */
export interface Connection {
    /** Bytes that wait to be sent; without it, bulk is not held back for what is quick. */
    readonly bufferedAmount?: number;
    send(frame: Bytes): void;
    close(code: number): void;
}
/** What a connection tells. After `onclose` nothing more; what is thrown at `send` or while opening counts as a close, as does opening that returns nothing. What `close` throws is told in the console. */
export interface ConnectionHandlers {
    /** The session's address, its scheme `http:` or `https:`; the last segment is the session's id. */
    readonly url: string;
    onopen(): void;
    onmessage(data: ArrayBuffer | Bytes): void;
    onclose(code?: number): void;
}
export type OpenConnection = (handlers: ConnectionHandlers) => Connection;
/** Makes connections of this kind, for pages whose server chose it. It may come after `connect`. */
export declare function registerConnection(name: string, open: OpenConnection): void;
/** Runs at once, or when the kind is registered. Whether it was at once. */
export declare function whenRegistered(name: string, run: (open: OpenConnection) => void): boolean;
/** The default kind. */
export declare function openWebSocket({ WebSocket }: Environment, { url, onopen, onmessage, onclose }: ConnectionHandlers): Connection;
