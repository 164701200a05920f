import type { Environment } from './environment';
import type { Status } from './status';
import type { OpenTicket } from './ticket';
import type { TicketSource } from './ticket_source';
/** Whether a page whose session is over like this gets a new one, unless it decides otherwise. */
export declare function isRenewed({ reason, outcome }: Status): boolean;
/** Gets new tickets, not too often. */
export declare class Renewal {
    #private;
    constructor(source: TicketSource, now: () => number, environment: Environment);
    get isPossible(): boolean;
    /** A ticket, in so many milliseconds at the earliest, or why there is none. `waiting` is told when the next request is due, and what hinders them if they fail. */
    obtain(delay: number, waiting: (at: number, hindrance: string) => void): Promise<OpenTicket | string>;
    /** A ticket was good for a session. */
    succeed(): void;
    /** The network may be there again: a pause that nobody has asked for is over. */
    wake(): void;
    stop(): void;
}
