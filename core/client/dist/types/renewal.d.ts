import type { Environment } from './environment';
import type { OpenTicket } from './ticket';
import type { TicketSource } from './ticket_source';
/** Gets new tickets, at a limited rate. */
export declare class Renewal {
    #private;
    constructor(source: TicketSource, now: () => number, environment: Environment);
    get isPossible(): boolean;
    /**
     * Requests a ticket after `delay` milliseconds or later. Returns it, or why there is none. Calls
     * `waiting` with the time of the next request and what prevents requests, if anything does.
     */
    obtain(delay: number, waiting: (at: number, hindrance: string) => void): Promise<OpenTicket | string>;
    /** Records that a ticket led to a session. */
    succeed(): void;
    /** Ends a pause that the server did not request, because the network may be back. */
    wake(): void;
    stop(): void;
}
