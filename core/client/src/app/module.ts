// What the server's `app.mjs` exports: the layer, and the rest of the client. The file has the
// whole layer, so the pieces are of no use.

export { discard, OutboxFull, registerConnection, SessionOver, TooLarge } from '../index';
export { AppSession, attach, CallError, connect } from './index';
