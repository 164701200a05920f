// The classic script with the layer:
// <script src="/stillhere/app.js" data-stillhere='{ticket}'></script>

import { connect as connectRaw, discard, OutboxFull, registerConnection, SessionOver, TooLarge } from '../index';
import { connectScript } from '../script_session';
import { type AppSession, attach, CallError, connect } from './index';

/** `window.stillhere` of a page that loads this script. */
export interface AppGlobal {
  readonly connect: typeof connect;
  readonly attach: typeof attach;
  readonly discard: typeof discard;
  readonly registerConnection: typeof registerConnection;
  /** Session of the ticket in the script tag that ran last; null if it had none. */
  session: AppSession | null;
  readonly CallError: typeof CallError;
  readonly OutboxFull: typeof OutboxFull;
  readonly TooLarge: typeof TooLarge;
  readonly SessionOver: typeof SessionOver;
}

const layer = { connect, attach, CallError };
const page = window as unknown as { stillhere?: Partial<AppGlobal> };
const before = page.stillhere ?? { discard, registerConnection, session: null, OutboxFull, TooLarge, SessionOver };
// The script may run again for another session, or after the one without the layer.
const stillhere = (page.stillhere = before.attach ? before : Object.assign(before, layer)) as AppGlobal;

const session = connectScript(document.currentScript, connectRaw);
if (session) stillhere.session = attach(session);
