import type { Access } from './access';
import { type Data } from './bytes';
import { type LaneName, type MessageHandler } from './delivery';
import type { Environment } from './environment';
import type { Renewal } from './renewal';
import { type Status } from './status';
import { type From, type Ticket } from './ticket';
export type { Data } from './bytes';
export interface Options {
    /**
     * Maximum amount that may wait for acknowledgement in each lane: bytes, plus 64 for each message
     * or fragment. Default: 4 MiB.
     */
    outbox?: number;
    /** Base of a relative url in the ticket. Default: the page, as for the `src` of a script. */
    url?: string;
    /**
     * Address that answers a POST with a new ticket as JSON, for when this ticket is no longer good;
     * null forbids new tickets. By default the client fetches the page again, if the ticket is in one
     * of its `data-stillhere` attributes.
     */
    from?: string | null;
    onmessage?: MessageHandler;
    onstatus?: (status: Status) => void;
}
/** What a client can do beyond WebSockets and the ticket that it has. */
export interface Features {
    access(environment: Environment): Access;
    /** Absent if there are no new tickets. */
    renewal?(ticket: Ticket | From, from: string | null | undefined, base: string, now: () => number, environment: Environment): Renewal;
}
/** Returns the window's session of this ticket, or a new one if there is none. */
export declare function sessionFor(environment: Environment, ticket: Ticket | From, options: Options, features: Features): Session;
/** The page's end of a session. It outlives its connections: messages arrive once and in order. */
export declare class Session {
    #private;
    /** Called when `status` changes. */
    onstatus: ((status: Status) => void) | null;
    /**
     * Decides whether a new session replaces one that would be `refused` or `ended` with this status.
     */
    renew: (status: Status) => boolean;
    /** Use `connect`; only `connectIn` and tests call this. */
    constructor(ticket: Ticket | From, options: Options, environment: Environment, features: Features);
    /**
     * Id of the session in use, which after a reload may be that of the previous page. Empty if the
     * server had no room, and once closed.
     */
    get id(): string;
    /**
     * Kind of the connection in use: `websocket`, `streamed` or `polled` where WebSockets are
     * blocked, or a registered one.
     */
    get connection(): string;
    get status(): Status;
    /**
     * Receives each message. Messages wait while there is no handler. Those received before the end
     * are still delivered after it.
     */
    get onmessage(): MessageHandler | null;
    set onmessage(handler: MessageHandler | null);
    /**
     * Sends a message ahead of all bulk messages. Throws `OutboxFull`, `TooLarge` or `SessionOver`.
     */
    send(data: Data): void;
    /** Sends a message in the bulk lane, for large transfers. Throws like `send`. */
    sendBulk(data: Data): void;
    /**
     * Returns the amount that the server has not acknowledged, in one lane or both: bytes, plus 64
     * for each message or fragment.
     */
    bufferedAmount(lane?: LaneName): number;
    /**
     * Measures the round trip in milliseconds. Rejects if there is no connection, or if it is lost
     * before the answer.
     */
    ping(): Promise<number>;
    /**
     * Tries to connect now, even if the server or a proxy asked the page to wait. A session that is
     * over stays over.
     */
    retry(): void;
    /**
     * Ends the session after the current task, once each caller of `connect` has closed it. Code that
     * closes and connects again in one task keeps it. Unacknowledged messages may be lost: if they
     * matter, wait until `bufferedAmount()` is 0.
     */
    close(): void;
}
