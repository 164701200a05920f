import type { Environment } from './environment';
import type { Status } from './status';
import type { OpenTicket } from './ticket';
import type { TicketSource } from './ticket_source';
/** Returns true if a page whose session ended like this gets a new one by default. */
export declare function isRenewed({ reason, outcome }: Status): boolean;
/** Gets new tickets, at a limited rate. */
export declare class Renewal {
    #private;
    constructor(source: TicketSource, now: () => number, environment: Environment);
    get isPossible(): boolean;
    /** A ticket, in so many milliseconds at the earliest, or why there is none. `waiting` is told when the next request is due, and what hinders them if they fail. */
    obtain(delay: number, waiting: (at: number, hindrance: string) => void): Promise<OpenTicket | string>;
    /** Notes that a ticket led to a session. */
    succeed(): void;
    /** The network may be back: ends a pause that the server did not ask for. */
    wake(): void;
    stop(): void;
}
