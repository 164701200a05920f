export { connect } from './connect';
export { discard } from './discard';
export { OutboxFull, SessionOver, TooLarge } from './errors';
export { registerConnection } from './kinds';

export type { Connection, ConnectionHandlers, OpenConnection } from './kinds';
export type { LaneName, MessageHandler } from './delivery';
export type { Data, Options, Session } from './session';
export type { Obstacle } from './obstacle';
export type { Status } from './status';
export type { From, OpenTicket, RefusedTicket, StaticTicket, Ticket } from './ticket';
export type { Limits } from './wire';
