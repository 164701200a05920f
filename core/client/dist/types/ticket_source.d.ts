import type { Environment } from './environment';
import { type From, type OpenTicket, type Ticket } from './ticket';
/** A ticket; how many milliseconds to wait at least until there may be one; or why there is none. */
export type Answer = OpenTicket | number | string;
/** Where new tickets come from: an address that the application has named, or the page, fetched once more (PROTOCOL.md, section 14). */
export declare class TicketSource {
    #private;
    /** `from` null: there are none. */
    constructor(own: Ticket | From, from: string | null | undefined, environment: Environment);
    get isThere(): boolean;
    ask(signal: AbortSignal): Promise<Answer>;
}
