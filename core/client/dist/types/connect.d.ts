import type { Environment } from './environment';
import { type Features, type Options, type Session } from './session';
import type { From, Ticket } from './ticket';
/** Everything: HTTP where WebSockets do not get through, and new tickets. */
export declare const EVERY_FEATURE: Features;
/**
 * Connects this page to the session of its ticket. Throws if the ticket is invalid. Returns the
 * same session for the same ticket until it is over.
 */
export declare function connect(ticket: Ticket | From, options?: Options): Session;
/** Implements `connect`; tests pass their own environment. */
export declare function connectIn(environment: Environment, ticket: Ticket | From, options?: Options): Session;
