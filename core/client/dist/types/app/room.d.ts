import type { Host } from './host';
import type { Newest, NewestValues } from './newest';
import { type Unit } from './unit';
/** A member of a room. */
export interface Member<S = unknown> {
    readonly id: number;
    /** The user of its session, if any. */
    readonly principal: string | null;
    /** Whether its page has no connection at present. */
    readonly away: boolean;
    /** Since when it is away, or else connected: milliseconds since 1970. */
    readonly since: number;
    /** What it says of itself. */
    readonly state: S;
}
/** What has changed: all members are known anew, or one of them. */
export type RoomChange = 'members' | 'joined' | 'left' | 'away' | 'back' | 'state';
/** Why the page is not a member: it or the server has ended that, it was too slow, or may not join. */
export type RoomOut = 'left' | 'lagged' | 'refused';
/**
 * Called with the members, what has changed, and whom that concerns. In a large room several
 * changes may arrive at once: the members are those after all of them.
 */
export type RoomWatcher<S> = (members: readonly Member<S>[], change: RoomChange, member?: Member<S>) => unknown;
/** Handles an event. `from` is the member that has sent it, unless the server has or it has left. */
export type RoomHandler<S, T> = (value: T, from: Member<S> | undefined) => unknown;
/** A room: its members see each other, and get the same events. */
export declare class Room<S = unknown> implements Newest {
    #private;
    readonly name: string;
    readonly label: string;
    /** Told how many events the page has missed, because it could not keep up. */
    onmissed: ((count: number) => unknown) | null;
    /** Told that the page is not a member, or may not become one. */
    onout: ((reason: RoomOut, text: string) => unknown) | null;
    /** Use `AppSession.room`. */
    constructor(name: string, host: Host, newest: NewestValues);
    /** The members, in the order in which the page got to know them. A new array after each change. */
    get present(): readonly Member<S>[];
    /** The page as a member, if it is one. */
    get me(): Member<S> | undefined;
    /** Becomes a member, if the server lets it. Resolves once the members are known. */
    join(state?: S): Promise<void>;
    leave(): void;
    /** Says something else of this page. Of states that follow each other fast, the newest is sent. */
    setState(state: S): void;
    /** Sends an event to all others. Throws like `AppSession.emit`, and if the page is no member. */
    send(event: string, value?: unknown): void;
    /** Calls `handler` for each event of this name, until the returned function is called. */
    on<T = unknown>(event: string, handler: RoomHandler<S, T>): () => void;
    /** Calls `watcher` now and after each change, until the returned function is called. */
    watch(watcher: RoomWatcher<S>): () => void;
    /** Sends the newest state. Internal. */
    sendNewest(): void;
    /** Takes a unit of this room. Throws `Undecodable`. Internal. */
    receive(unit: Unit): void;
    /** Begins anew with a new session, or ends. Internal. */
    reset(isOver: boolean): void;
}
