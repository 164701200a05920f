import type { MachineEvent, Outcome, Phase } from './machine';
import type { Obstacle } from './obstacle';
import { type From, type Ticket } from './ticket';
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
export declare const CONNECTING: Status;
/** The status of a session whose ticket cannot be presented, if it cannot. */
export declare function statusWith(ticket: Ticket | From, wall: number): Status | undefined;
/** What an event makes of the status, when the machine's clock shows `now` and `Date.now()` is `wall`. */
export declare function statusAfter(event: MachineEvent, before: Status, now: number, wall: number): Status;
/** What the machine's phase makes of it. */
export declare function statusIn(phase: Phase, before: Status, obstacle: Obstacle | null): Status;
/** Whether an application is to be told. When the next attempt is due it may ask, for that changes with each. */
export declare function isNews(status: Status, before: Status): boolean;
