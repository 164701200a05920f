// The classic script: <script src="/stillhere/client.js" data-stillhere='{ticket}'></script>

import { connect, discard, type OpenTicket, OutboxFull, registerConnection, type Session, SessionOver, TooLarge } from './index';
import { closeWith, isLasting } from './script_element';

declare global {
  interface Window {
    stillhere: {
      readonly connect: typeof connect;
      readonly discard: typeof discard;
      readonly registerConnection: typeof registerConnection;
      /** Session of the ticket in the script tag that ran last; null if it had none. */
      session: Session | null;
      readonly OutboxFull: typeof OutboxFull;
      readonly TooLarge: typeof TooLarge;
      readonly SessionOver: typeof SessionOver;
    };
  }
}

// A page may run this script again for another session. The global of the first run stays.
const stillhere = ((window as Partial<Window>).stillhere ??= { connect, discard, registerConnection, session: null, OutboxFull, TooLarge, SessionOver });

const script = document.currentScript;
const { stillhere: json, stillhereFrom } = script?.dataset ?? {};
const from = stillhereFrom === 'none' ? null : stillhereFrom;
if ((json || from) && isLasting(script!)) {
  const ticket = JSON.parse(json || 'null') as OpenTicket | null;
  stillhere.session = stillhere.connect(ticket ?? { from: from! }, from === undefined ? {} : { from });
  closeWith(script!, ticket?.id ?? '', stillhere.session);
}
