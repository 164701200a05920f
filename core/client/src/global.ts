// The classic script: <script src="/stillhere/client.js" data-stillhere='{ticket}'></script>

import { connect, discard, type OpenTicket, OutboxFull, registerConnection, type Session, SessionOver, type Ticket, TooLarge } from './index';
import { closeWith, isLasting } from './script_element';

declare global {
  interface Window {
    stillhere: {
      readonly connect: typeof connect;
      readonly discard: typeof discard;
      readonly registerConnection: typeof registerConnection;
      /** Of the ticket in the script tag that ran last, null if there was none. */
      session: Session | null;
      readonly OutboxFull: typeof OutboxFull;
      readonly TooLarge: typeof TooLarge;
      readonly SessionOver: typeof SessionOver;
    };
  }
}

// A page may run this script again, for another session: what the first run made stays.
const stillhere = ((window as Partial<Window>).stillhere ??= { connect, discard, registerConnection, session: null, OutboxFull, TooLarge, SessionOver });

const script = document.currentScript;
const ticket = script?.dataset['stillhere'];
if (ticket && isLasting(script!)) {
  const parsed = JSON.parse(ticket) as Ticket;
  stillhere.session = stillhere.connect(parsed);
  closeWith(script!, (parsed as Partial<OpenTicket>).id ?? '', stillhere.session);
}
