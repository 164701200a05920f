export { discard, OutboxFull, registerConnection, SessionOver, TooLarge } from '../index';
export * from './index';
