import type { MachineEvent, Outcome, Phase } from './machine';
import { nameOfCode, nameOfReason } from './names';
import type { Obstacle } from './obstacle';
import { type From, isRefused, isStatic, type Ticket } from './ticket';

/** What a page can tell its user about a session. */
export interface Status {
  /**
   * `connecting` before the first welcome, `reconnecting` after it; `paused` while the page is hidden or left for so long that it no longer
   * tries; `refused`: this ticket will not do; `ended`: the session is over.
   */
  readonly state: 'connecting' | 'connected' | 'reconnecting' | 'paused' | 'refused' | 'ended';
  /**
   * Of the last welcome: `restored` means that the session is older than this page, `renewed` that this is another session than the page had
   * before, which knows nothing of it.
   */
  readonly outcome: Outcome | 'renewed' | null;
  /** What went wrong last, 0 once connected; the protocol's codes are 4100 to 4499, 1006 is a lost connection. */
  readonly code: number;
  /** The name of the code, or why the session ended; empty for a code that is not the protocol's. */
  readonly reason: string;
  /** One line for a person; may be empty. */
  readonly text: string;
  /** When the next attempt is due, as `Date.now()` counts. With `refused` and `ended`: when a new ticket may be had. */
  readonly retryAt: number | null;
  /** What stands between the page and the server, once all kinds of connections have met it; `null` when connected, unless something is too large to be sent. */
  readonly obstacle: Obstacle | null;
  /** Once ended, or renewed: how many messages the server has not acknowledged. */
  readonly unacknowledged: number;
}

export const CONNECTING: Status = { state: 'connecting', outcome: null, code: 0, reason: '', text: '', retryAt: null, obstacle: null, unacknowledged: 0 };

/** The status of a session whose ticket cannot be presented, if it cannot. */
export function statusWith(ticket: Ticket | From, wall: number): Status | undefined {
  const status: Status = { ...CONNECTING, state: 'refused', reason: 'NoTicket' };
  if (isRefused(ticket)) {
    const { code, retryAfter, text } = ticket.refused;
    return { ...status, code, reason: nameOfCode(code), text, retryAt: wall + (Number(retryAfter) || 0) };
  }
  if (isStatic(ticket)) return { ...status, reason: 'NoServer', text: 'this page was made without a server behind it' };
  return (ticket as Partial<From> | undefined)?.from === undefined ? undefined : status;
}

/** What an event makes of the status, when the machine's clock shows `now` and `Date.now()` is `wall`. */
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

/** What the machine's phase makes of it. */
export function statusIn(phase: Phase, before: Status, obstacle: Obstacle | null): Status {
  if (phase === 'idle') return before;
  if (phase === 'over') return { ...before, obstacle: null };
  if (phase === 'connected') return { ...before, obstacle };
  if (phase === 'resting' || phase === 'left') return { ...before, obstacle, state: 'paused', retryAt: null };
  return { ...before, obstacle, state: before.outcome ? 'reconnecting' : 'connecting', retryAt: phase === 'waiting' ? before.retryAt : null };
}

/** Whether an application is to be told. When the next attempt is due it may ask, for that changes with each. */
export function isNews(status: Status, before: Status): boolean {
  const isTrying = status.state === 'connecting' || status.state === 'reconnecting';
  const told = (status: Status): string => JSON.stringify(isTrying ? { ...status, retryAt: null } : status);
  return told(status) !== told(before);
}
