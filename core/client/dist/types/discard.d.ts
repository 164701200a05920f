import type { Environment } from './environment';
import { type Ticket } from './ticket';
/**
 * Gives up an unused ticket: the server ends its session at once if no page has connected to it.
 * The option `url` is the same as for `connect`.
 */
export declare function discard(ticket: Ticket, { url }?: {
    readonly url?: string;
}): void;
/** Implements `discard`; tests pass their own environment. */
export declare function discardIn(environment: Environment, ticket: Ticket, base?: string): void;
