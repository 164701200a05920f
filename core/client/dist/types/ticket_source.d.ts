import type { Environment } from './environment';
import { type From, type OpenTicket, type Ticket } from './ticket';
/** A ticket; for how many milliseconds somebody asks to wait until there may be one, who may ask for anything, or NaN; or why there is none. */
export type Answer = OpenTicket | number | string;
/** Where new tickets come from: an address that the application has named, or the page, fetched once more (PROTOCOL.md, section 14). */
export declare class TicketSource {
    #private;
    /** What hinders requests, once two in a row have failed although there is a network; else empty. */
    hindrance: string;
    /** `from` null: there are none. */
    constructor(own: Ticket | From, from: string | null | undefined, base: string, environment: Environment);
    get isThere(): boolean;
    ask(signal: AbortSignal): Promise<Answer>;
}
