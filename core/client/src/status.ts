import type { MachineEvent, Outcome, Phase } from './machine';
import { nameOfCode, nameOfReason } from './names';
import type { Obstacle } from './obstacle';
import { type From, isRefused, isStatic, type Ticket } from './ticket';

/** State of a session, for the page to show. */
export interface Status {
  /**
   * `connecting` before the first welcome, `reconnecting` after it; `paused` while the page is
   * hidden or left for so long that it no longer tries; `refused` if the server does not accept the
   * ticket; `ended` when the session is over.
   */
  readonly state: 'connecting' | 'connected' | 'reconnecting' | 'paused' | 'refused' | 'ended';
  /**
   * Outcome of the last welcome. `restored`: the session is older than this page. `renewed`: this
   * session replaces the one that the page had, and shares no state with it.
   */
  readonly outcome: Outcome | 'renewed' | null;
  /**
   * Code of the last problem; 0 while connected. The protocol uses 4100 to 4499; 1006 is a lost
   * connection.
   */
  readonly code: number;
  /**
   * Name of the code, or of the reason why the session ended. Empty for a code outside the
   * protocol.
   */
  readonly reason: string;
  /** One-line explanation for people; may be empty. */
  readonly text: string;
  /**
   * Time of the next attempt, on the clock of `Date.now()`. With `refused` and `ended`: the time
   * when a new ticket may be available.
   */
  readonly retryAt: number | null;
  /**
   * Obstacle between the page and the server, once all kinds of connections have met it. `null`
   * while connected, unless a message is too large.
   */
  readonly obstacle: Obstacle | null;
  /**
   * Number of messages that the server has not acknowledged, once the session has ended or was
   * renewed.
   */
  readonly unacknowledged: number;
}

export const CONNECTING: Status = { state: 'connecting', outcome: null, code: 0, reason: '', text: '', retryAt: null, obstacle: null, unacknowledged: 0 };

/** Returns the status of a session whose ticket cannot be presented; undefined if it can. */
export function statusWith(ticket: Ticket | From, wall: number): Status | undefined {
  const status: Status = { ...CONNECTING, state: 'refused', reason: 'NoTicket' };
  if (isRefused(ticket)) {
    const { code, retryAfter, text } = ticket.refused;
    return { ...status, code, reason: nameOfCode(code), text, retryAt: wall + (Number(retryAfter) || 0) };
  }
  if (isStatic(ticket)) return { ...status, reason: 'NoServer', text: 'this page was made without a server' };
  return (ticket as Partial<From> | undefined)?.from === undefined ? undefined : status;
}

/**
 * Returns the status after an event, when the machine's clock shows `now` and `Date.now()` is
 * `wall`.
 */
export function statusAfter(event: MachineEvent, before: Status, now: number, wall: number): Status {
  if (event.type === 'pong') return before;
  if (event.type === 'welcomed') return { ...CONNECTING, state: 'connected', outcome: event.outcome };
  const { code, text } = event;
  const status = { ...before, code, reason: nameOfCode(code), text, retryAt: null };
  if (event.type === 'ended') {
    return { ...status, state: 'ended', reason: nameOfReason(event.reason), retryAt: event.retryAfter ? wall + event.retryAfter : null };
  }
  if (event.type === 'refused' && event.class === 'never') return { ...status, state: 'refused' };
  return { ...status, retryAt: event.retryAt === undefined ? null : Math.round(event.retryAt - now + wall) };
}

/** Returns the status in a phase of the machine. While nothing changes, it is the same object. */
export function statusIn(phase: Phase, before: Status, obstacle: Obstacle | null): Status {
  if (phase === 'idle') return before;
  if (phase === 'over') return { ...before, obstacle: null };
  if (phase === 'connected') return before.obstacle === obstacle ? before : { ...before, obstacle };
  if (phase === 'resting' || phase === 'left') return { ...before, obstacle, state: 'paused', retryAt: null };
  return { ...before, obstacle, state: before.outcome ? 'reconnecting' : 'connecting', retryAt: phase === 'waiting' ? before.retryAt : null };
}

/**
 * Returns true if the application must be notified. A change of `retryAt` alone does not count,
 * because it changes with each attempt.
 */
export function isNews(status: Status, before: Status): boolean {
  const isTrying = status.state === 'connecting' || status.state === 'reconnecting';
  const told = (status: Status): string => JSON.stringify(isTrying ? { ...status, retryAt: null } : status);
  return told(status) !== told(before);
}

/**
 * Reasons after which the page gets a new session by default. The last five count only if this
 * document never had the session, because then another document had it, or none.
 */
const RENEWED = ['Unknown', 'NeverConnected', 'Draining', 'Duplicate', 'Full', 'Finished', 'Expired', 'Disconnected', 'MemoryPressure'];

/** Returns true if a page whose session ended like this gets a new one by default. */
export function isRenewed({ reason, outcome }: Status): boolean {
  return RENEWED.slice(0, outcome ? 4 : 9).includes(reason);
}
