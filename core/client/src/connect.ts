import type { Environment } from './environment';
import { EveryAccess } from './every_access';
import { Renewal } from './renewal';
import { type Features, type Options, type Session, sessionFor } from './session';
import type { From, Ticket } from './ticket';
import { TicketSource } from './ticket_source';

/** Everything: HTTP where WebSockets do not get through, and new tickets. */
export const EVERY_FEATURE: Features = {
  access: (environment) => new EveryAccess(environment),
  renewal: (ticket, from, base, now, environment) => new Renewal(new TicketSource(ticket, from, base, environment), now, environment),
};

/**
 * Connects this page to the session of its ticket. Throws if the ticket is invalid. Returns the
 * same session for the same ticket until it is over.
 */
export function connect(ticket: Ticket | From, options: Options = {}): Session {
  return connectIn(window, ticket, options);
}

/** Implements `connect`; tests pass their own environment. */
export function connectIn(environment: Environment, ticket: Ticket | From, options: Options = {}): Session {
  return sessionFor(environment, ticket, options, EVERY_FEATURE);
}
