import type { Environment } from './environment';
import { type From, type OpenTicket, type Ticket } from './ticket';
/**
 * A ticket; or how many milliseconds to wait, which comes from the network and may be anything,
 * even NaN; or why there is none.
 */
export type Answer = OpenTicket | number | string;
/**
 * The source of new tickets: an address that the application has named, or the page, fetched again
 * (PROTOCOL.md, section 14).
 */
export declare class TicketSource {
    #private;
    /**
     * What prevents requests, after two in a row failed although there is a network; otherwise empty.
     */
    hindrance: string;
    /** If `from` is null, there are no new tickets. */
    constructor(own: Ticket | From, from: string | null | undefined, base: string, environment: Environment);
    get isThere(): boolean;
    ask(signal: AbortSignal): Promise<Answer>;
}
