import type { Environment } from './environment';
import type { Bytes, Limits } from './wire';
/** The JSON object that the server gives a page. Unknown members are ignored. */
export type Ticket = OpenTicket | RefusedTicket | StaticTicket;
/** A page's right to one session. */
export interface OpenTicket {
    readonly protocol: string;
    readonly url: string;
    /** Id of the session, which is not secret. */
    readonly id: string;
    /** 32 bytes in base64url. Anyone who has it can take over the session. */
    readonly secret: string;
    readonly limits: Limits;
    /** Label under which this tab keeps the ticket for a reload. */
    readonly restore?: string;
    /** Kind of connection, chosen by the server. Default: WebSocket. */
    readonly connection?: string;
}
/** An address that answers a POST with a ticket, like `Options.from`. Used instead of a ticket. */
export interface From {
    readonly from: string;
}
/** Ticket of a static page, which has no server. */
export interface StaticTicket {
    readonly protocol: string;
    readonly connection: 'none';
}
/** Answer of a server that has no room for another session. */
export interface RefusedTicket {
    readonly protocol: string;
    readonly refused: {
        readonly code: number; /** Milliseconds. */
        readonly retryAfter: number;
        readonly text: string;
    };
}
export declare const PROTOCOL = "stillhere.v1";
export declare function isRefused(ticket: Ticket | From): ticket is RefusedTicket;
export declare function isStatic(ticket: Ticket | From): ticket is StaticTicket;
/** A ticket that can be presented. */
export interface Credentials {
    readonly ticket: OpenTicket;
    readonly url: string;
    readonly secret: Bytes;
}
/**
 * Resolves an address against `base`, with the scheme `http:` or `https:`. Removes a user name and
 * password, which the page's address may contain and `fetch` rejects.
 */
export declare function resolve(address: string, base: string): URL;
/**
 * Returns the credentials in a ticket, with its url resolved against `base`. Throws if it is not a
 * ticket.
 */
export declare function credentialsOf(ticket: OpenTicket, base: string): Credentials;
/**
 * The ticket that a reload of this page may present. The tab stores it under the label, the
 * session's number within the label, the address and the frame.
 */
export declare class StoredTicket {
    #private;
    /** Without a label, nothing is stored. */
    constructor(label: string | undefined, environment: Environment);
    /**
     * Returns the ticket of an earlier document of this page, if this one is a reload or was reached
     * through the history.
     */
    load(): OpenTicket | undefined;
    save(ticket: OpenTicket): void;
    /** Removes the saved ticket under the key of its save, because the address may have changed. */
    remove(): void;
    /** Frees the place for the next session of this label. */
    free(): void;
}
