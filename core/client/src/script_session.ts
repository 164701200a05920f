import type { connect as Connect } from './connect';
import { closeWith, isLasting } from './script_element';
import type { Session } from './session';
import type { OpenTicket } from './ticket';

/**
 * Connects the session of a script element. Returns undefined if the element has none, or its page
 * is about to go. The session closes when the element has left the document.
 */
export function connectScript(script: HTMLOrSVGScriptElement | null, connect: typeof Connect): Session | undefined {
  const { stillhere: json, stillhereFrom } = script?.dataset ?? {};
  if (!(json || stillhereFrom) || !isLasting(script!)) return;
  const from = stillhereFrom === 'none' ? null : stillhereFrom;
  const ticket = JSON.parse(json || 'null') as OpenTicket | null;
  const session = connect(ticket ?? { from: from! }, from === undefined ? {} : { from });
  closeWith(script!, ticket?.id ?? '', session);
  return session;
}
