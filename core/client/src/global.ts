// The classic script: <script src="/stillhere/client.js" data-stillhere='{ticket}'></script>

import { connect, OutboxFull, registerConnection, type Session, SessionOver, type Ticket, TooLarge } from './index';

declare global {
  interface Window {
    /** `session` is the one of the ticket in the script tag, null if there is none. */
    stillhere: {
      readonly connect: typeof connect;
      readonly registerConnection: typeof registerConnection;
      readonly session: Session | null;
      readonly OutboxFull: typeof OutboxFull;
      readonly TooLarge: typeof TooLarge;
      readonly SessionOver: typeof SessionOver;
    };
  }
}

window.stillhere = { connect, registerConnection, session: connectScript(document.currentScript), OutboxFull, TooLarge, SessionOver };

function connectScript(script: HTMLOrSVGScriptElement | null): Session | null {
  const ticket = script?.dataset['stillhere'];
  return ticket ? connect(JSON.parse(ticket) as Ticket) : null;
}
