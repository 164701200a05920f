// The classic script: <script src="/stillhere/client.js" data-stillhere='{ticket}'></script>

import { connect, discard, OutboxFull, registerConnection, type Session, SessionOver, TooLarge } from './index';
import { connectScript } from './script_session';

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

const session = connectScript(document.currentScript, stillhere.connect);
if (session) stillhere.session = session;
