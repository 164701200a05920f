import type { OpenConnection } from './kinds';
import type { Options, Session } from './session';
/** State that all sessions of a window share, whichever copy of this script created them. */
interface Shared {
    /** Returns the living session of a ticket to another caller of `connect`, by the ticket's id. */
    readonly sessions: Map<string, (options: Options) => Session>;
    /** Places where sessions that survive a reload keep their tickets. */
    readonly places: Set<string>;
    /** Elements that hold a session, with the address of the page that they came with. */
    readonly scripts: Map<Element, string>;
    /** Ids of the tickets whose elements have left the document. */
    readonly spent: Set<string>;
    readonly kinds: Map<string, OpenConnection>;
    /** Callbacks to run when the kind of this name is registered. */
    readonly awaited: Map<string, (() => void)[]>;
}
export declare function sharedIn(window: object): Shared;
/** Takes the first place that no other session with this label has. A reload finds it again, because it creates its sessions in the same order. */
export declare function takePlace(label: string, window: object): string;
export {};
