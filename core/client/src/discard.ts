import type { Environment } from './environment';
import { post } from './posts';
import { credentialsOf, isRefused, isStatic, type Ticket } from './ticket';

const DISCARD = 3;

/**
 * Gives up an unused ticket: the server ends its session at once if no page has connected to it.
 * The option `url` is the same as for `connect`.
 */
export function discard(ticket: Ticket, { url }: { readonly url?: string } = {}): void {
  discardIn(window, ticket, url);
}

/** Implements `discard`; tests pass their own environment. */
export function discardIn(environment: Environment, ticket: Ticket, base = environment.location.href): void {
  if (isRefused(ticket) || isStatic(ticket)) return;
  const { url, secret } = credentialsOf(ticket, base);
  const body = new Uint8Array(53);
  body[0] = DISCARD;
  body.set(secret, 21);
  // If this request is lost, the server ends the session when its wait for a first connection
  // expires.
  post(environment, url, body, { keepalive: true }).catch(() => {});
}
