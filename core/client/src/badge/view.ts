import type { Status } from '../status';

/** What the badge says; replace any of them to translate it. */
export interface BadgeTexts {
  connecting: string;
  reconnecting: string;
  paused: string;
  /** The server has no room, or is shutting down. */
  full: string;
  /** The session is open in another tab or on another page. */
  elsewhere: string;
  ended: string;
  /** Follows `ended`, `elsewhere` and a refusal: the way on. */
  kept: string;
  /** Countdown to the next attempt. */
  retryIn(seconds: number): string;
  tryNow: string;
  reload: string;
}

export const ENGLISH: BadgeTexts = {
  connecting: 'Connecting …',
  reconnecting: 'Connection lost. Reconnecting …',
  paused: 'Paused while this page is in the background.',
  full: 'The server is busy.',
  elsewhere: 'This session is open elsewhere.',
  ended: 'Your session has ended.',
  kept: 'What you typed is still here. Reload the page to go on.',
  retryIn: (seconds) => `Next attempt in ${seconds} s.`,
  tryNow: 'Try now',
  reload: 'Reload',
};

/** What the badge shows. */
export interface BadgeView {
  /** The session's state, for styles. */
  readonly state: Status['state'];
  readonly text: string;
  /** Why, or what helps; changes do not interrupt a screen reader. */
  readonly detail: string;
  readonly action: 'retry' | 'reload' | null;
}

/** Milliseconds that a connection may be missing before anybody is told. */
export const PATIENCE = 500;

/**
 * Returns what to show at `wall` (milliseconds of `Date.now()`), when the session has not been
 * connected since `since`; null to show nothing.
 */
export function viewOf(status: Status, since: number, wall: number, texts: BadgeTexts): BadgeView | null {
  const { state, reason, retryAt, obstacle } = status;
  if (state === 'connected') return null;
  if (state === 'ended' || state === 'refused') return final(status, wall, texts);
  if (wall - since < PATIENCE) return null;
  const seconds = retryAt === null ? 0 : Math.ceil((retryAt - wall) / 1000);
  const isFull = reason === 'Full' || reason === 'Draining';
  const countdown = seconds > 1 ? texts.retryIn(seconds) : '';
  return {
    state,
    text: isFull && state !== 'paused' ? texts.full : texts[state],
    detail: [obstacle?.text ?? '', countdown].filter(Boolean).join(' '),
    action: seconds > 1 || state === 'paused' ? 'retry' : null,
  };
}

/** Returns what to show of a session that does not come back by itself. */
function final({ state, reason, text, retryAt }: Status, wall: number, texts: BadgeTexts): BadgeView | null {
  // The page itself closed the session, or was made without a server.
  if (reason === 'Closed' || reason === 'NoServer') return null;
  const seconds = retryAt === null ? 0 : Math.ceil((retryAt - wall) / 1000);
  if (seconds > 0) return { state, text: texts.full, detail: texts.retryIn(seconds), action: null };
  const isElsewhere = reason === 'Superseded' || reason === 'Duplicate';
  const why = state === 'refused' && !isElsewhere ? text : '';
  return { state, text: isElsewhere ? texts.elsewhere : texts.ended, detail: [why, texts.kept].filter(Boolean).join(' '), action: 'reload' };
}
