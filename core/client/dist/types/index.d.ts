export { OutboxFull, SessionOver, TooLarge } from './errors';
export { connect } from './session';
export type { LaneName, MessageHandler } from './delivery';
export type { Data, Options, Session } from './session';
export type { Status } from './status';
export type { OpenTicket, RefusedTicket, Ticket } from './ticket';
export type { Limits } from './wire';
