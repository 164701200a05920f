// What the server's `app.mjs` exports: the layer, and the rest of the client.

export { discard, OutboxFull, registerConnection, SessionOver, TooLarge } from '../index';
export * from './index';
