import type { MachineEvent, Outcome, Phase } from './machine';
import type { Obstacle } from './obstacle';
import { type From, type Ticket } from './ticket';
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
export declare const CONNECTING: Status;
/** Returns the status of a session whose ticket cannot be presented; undefined if it can. */
export declare function statusWith(ticket: Ticket | From, wall: number): Status | undefined;
/**
 * Returns the status after an event, when the machine's clock shows `now` and `Date.now()` is
 * `wall`.
 */
export declare function statusAfter(event: MachineEvent, before: Status, now: number, wall: number): Status;
/** Returns the status in a phase of the machine. While nothing changes, it is the same object. */
export declare function statusIn(phase: Phase, before: Status, obstacle: Obstacle | null): Status;
/**
 * Returns true if the application must be notified. A change of `retryAt` alone does not count,
 * because it changes with each attempt.
 */
export declare function isNews(status: Status, before: Status): boolean;
/** Returns true if a page whose session ended like this gets a new one by default. */
export declare function isRenewed({ reason, outcome }: Status): boolean;
