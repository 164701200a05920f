// The client for pages whose WebSockets get through and which reload when their session is over.

import { type Options, type Session, sessionFor } from './session';
import type { Ticket } from './ticket';
import { WebSocketAccess } from './web_socket_access';

export { OutboxFull, SessionOver, TooLarge } from './errors';

export type { LaneName, MessageHandler } from './delivery';
export type { Data, Options, Session } from './session';
export type { Obstacle } from './obstacle';
export type { Status } from './status';
export type { OpenTicket, RefusedTicket, StaticTicket, Ticket } from './ticket';
export type { Limits } from './wire';

/**
 * Connects this page to the session of its ticket, over WebSockets only, and without new tickets.
 * Throws if the ticket is invalid. Returns the same session for the same ticket until it is over.
 */
export function connect(ticket: Ticket, options: Omit<Options, 'from'> = {}): Session {
  return sessionFor(window, ticket, options, { access: (environment) => new WebSocketAccess(environment) });
}
