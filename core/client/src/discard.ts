import type { Environment } from './environment';
import { post } from './posts';
import { credentialsOf, isRefused, isStatic, type Ticket } from './ticket';

const DISCARD = 3;

/** Gives back a ticket that is not needed: the server ends its session at once if no page has connected to it. `url` as for `connect`. */
export function discard(ticket: Ticket, { url }: { readonly url?: string } = {}): void {
  discardIn(window, ticket, url);
}

/** For `discard` and for tests. */
export function discardIn(environment: Environment, ticket: Ticket, base = environment.location.href): void {
  if (isRefused(ticket) || isStatic(ticket)) return;
  const { url, secret } = credentialsOf(ticket, base);
  const body = new Uint8Array(53);
  body[0] = DISCARD;
  body.set(secret, 21);
  // What does not arrive costs the server its wait for a page that never comes.
  post(environment, url, body, { keepalive: true }).catch(() => {});
}
