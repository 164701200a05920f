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
export declare const ENGLISH: BadgeTexts;
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
export declare const PATIENCE = 500;
/**
 * Returns what to show at `wall` (milliseconds of `Date.now()`), when the session has not been
 * connected since `since`; null to show nothing.
 */
export declare function viewOf(status: Status, since: number, wall: number, texts: BadgeTexts): BadgeView | null;
