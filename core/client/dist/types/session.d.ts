import { type LaneName, type MessageHandler } from './delivery';
import type { Environment } from './environment';
import { type Status } from './status';
import { type From, type Ticket } from './ticket';
export interface Options {
    /** How much may wait in each lane until the server has it: bytes, and 64 for each message or fragment. Default 4 MiB. */
    outbox?: number;
    /** What a relative url in the ticket is relative to; default the page, as for the `src` of a script. */
    url?: string;
    /**
     * Where this page gets another ticket if this one will not do: an address that answers a POST with one as JSON; null for nowhere. By default
     * the page itself is fetched again, if the ticket stands in an attribute `data-stillhere` of it.
     */
    from?: string | null;
    onmessage?: MessageHandler;
    onstatus?: (status: Status) => void;
}
/** Bytes to send; they are copied. */
export type Data = ArrayBuffer | ArrayBufferView;
/** Connects this page with the session of its ticket; throws if it is no ticket. The same ticket gives the same session as long as that lives. */
export declare function connect(ticket: Ticket | From, options?: Options): Session;
/** For `connect` and for tests. */
export declare function connectIn(environment: Environment, ticket: Ticket | From, options?: Options): Session;
/** The page's end of a session. It outlives its connections: what was sent arrives, once and in order. */
export declare class Session {
    #private;
    /** Called with every change of `status`. */
    onstatus: ((status: Status) => void) | null;
    /** Decides whether there is to be a new session in place of one that would be `refused` or `ended` with this status. */
    renew: (status: Status) => boolean;
    /** For `connectIn` and for tests. */
    constructor(ticket: Ticket | From, options: Options, environment: Environment);
    /** The session in use: after a reload perhaps that of the page before. Empty if the server had no room, and once closed. */
    get id(): string;
    /** The kind of the connection in use: `websocket`; `streamed` or `polled` where those do not get through; or one that was registered. */
    get connection(): string;
    get status(): Status;
    /** Gets each message; those that arrive while there is none wait. Messages received before the end are still handed over after it. */
    get onmessage(): MessageHandler | null;
    set onmessage(handler: MessageHandler | null);
    /** Sends ahead of all bulk. Throws `OutboxFull`, `TooLarge` or `SessionOver`. */
    send(data: Data): void;
    /** Sends in the lane for large transfers. Throws as `send` does. */
    sendBulk(data: Data): void;
    /** What the server has not acknowledged, in one lane or in both: bytes, and 64 for each message or fragment. */
    bufferedAmount(lane?: LaneName): number;
    /** Measures the round trip in milliseconds; rejects when there is no connection or it is lost before the answer. */
    ping(): Promise<number>;
    /** Tries to connect now, also where the server or a proxy asks the page to wait. A session that is over stays over. */
    retry(): void;
    /**
     * Leaves for good, once each caller of `connect` has closed the session and the task at hand is over, so that code that is run again keeps it.
     * What the server has not acknowledged may be lost: wait until `bufferedAmount()` is 0 if it matters.
     */
    close(): void;
}
