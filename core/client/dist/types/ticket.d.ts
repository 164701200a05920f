import type { Environment } from './environment';
import type { Bytes, Limits } from './wire';
/** What the server gives a page, as JSON. Unknown members are ignored. */
export type Ticket = OpenTicket | RefusedTicket | StaticTicket;
/** A page's right to one session. */
export interface OpenTicket {
    readonly protocol: string;
    readonly url: string;
    /** Id of the session, which is not secret. */
    readonly id: string;
    /** 32 bytes in base64url. Whoever has it can take the session over. */
    readonly secret: string;
    readonly limits: Limits;
    /** Label under which this tab keeps the ticket for a reload. */
    readonly restore?: string;
    /** Kind of connection that the server chose. Default: WebSocket. */
    readonly connection?: string;
}
/** In place of a ticket: an address that answers a POST with one, as `Options.from`. */
export interface From {
    readonly from: string;
}
/** A page without a server behind it. */
export interface StaticTicket {
    readonly protocol: string;
    readonly connection: 'none';
}
/** The server has no room for another session. */
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
/** An address by HTTP, resolved against `base`. A page may have been opened with a user and a password: no browser fetches an address that has them. */
export declare function resolve(address: string, base: string): URL;
/** What a ticket entitles to, its url resolved against `base`; throws if it is none. */
export declare function credentialsOf(ticket: OpenTicket, base: string): Credentials;
/** The ticket a reload of this page may present: kept by the tab for this label, the session's number among those of the label, the address and the frame. */
export declare class StoredTicket {
    #private;
    /** Without a label nothing is stored. */
    constructor(label: string | undefined, environment: Environment);
    /** What an earlier document of this page used, if this one is its reload or was reached through the history. */
    load(): OpenTicket | undefined;
    save(ticket: OpenTicket): void;
    /** Forgets what was saved, where it was saved: the address may have changed. */
    remove(): void;
    /** Leaves the place to the next session of this label. */
    free(): void;
}
