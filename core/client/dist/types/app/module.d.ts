export { discard, OutboxFull, registerConnection, SessionOver, TooLarge } from '../index';
export { AppSession, attach, CallError, connect } from './index';
