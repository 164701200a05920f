import type { Environment } from './environment';
import { type Ticket } from './ticket';
/** Gives back a ticket that is not needed: the server ends its session at once if no page has connected to it. `url` as for `connect`. */
export declare function discard(ticket: Ticket, { url }?: {
    readonly url?: string;
}): void;
/** For `discard` and for tests. */
export declare function discardIn(environment: Environment, ticket: Ticket, base?: string): void;
