import type { Host } from './host';
import { Listeners } from './listeners';
import type { Newest, NewestValues } from './newest';
import { Kind, type Unit } from './unit';

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

enum Action {
  Members,
  Member,
  Left,
  Missed,
  Out,
  Join,
  State,
  Leave,
  Changes,
}

interface Known<S> {
  readonly version: number;
  readonly member: Member<S>;
}

/** How one member has changed, or that it has left. */
type Told<S> = (Known<S> & { change: RoomChange; number?: number }) | { version: number; id: number; change?: undefined };

/** What watchers are told. */
type News<S> = [change: RoomChange, member?: Member<S>];

interface List<S> {
  version: number;
  /** Only in the last unit of a list, as is the number. */
  you?: number;
  number?: number;
  first: boolean;
  last: boolean;
  members: Member<S>[];
}

interface Joining {
  resolve(): void;
  reject(error: Error): void;
}

/** A room: its members see each other, and get the same events. */
export class Room<S = unknown> implements Newest {
  readonly name: string;
  readonly label: string;
  /** Told how many events the page has missed, because it could not keep up. */
  onmissed: ((count: number) => unknown) | null = null;
  /** Told that the page is not a member, or may not become one. */
  onout: ((reason: RoomOut, text: string) => unknown) | null = null;
  readonly #host: Host;
  readonly #newest: NewestValues;
  readonly #members = new Map<number, Known<S>>();
  readonly #handlers: Listeners<RoomHandler<S, never>>;
  readonly #watchers: Listeners<RoomWatcher<S>>;
  /** Members of a list that is not complete. */
  #partial: Member<S>[] = [];
  #present: readonly Member<S>[] = [];
  #version = 0;
  #you = 0;
  /** How many states this document has set in this membership, and the last one. */
  #number = 0;
  #state: S | undefined;
  /** Whether the page has joined by itself, and does so again after a renewal. */
  #joins = false;
  #joining: Joining[] = [];
  /** How often the page has left without having been told that it is out. */
  #leaving = 0;

  /** Use `AppSession.room`. */
  constructor(name: string, host: Host, newest: NewestValues) {
    this.name = name;
    this.label = `room ${name}`;
    this.#host = host;
    this.#newest = newest;
    this.#handlers = new Listeners(host);
    this.#watchers = new Listeners(host);
  }

  /** The members, in the order in which the page got to know them. A new array after each change. */
  get present(): readonly Member<S>[] {
    return this.#present;
  }

  /** The page as a member, if it is one. */
  get me(): Member<S> | undefined {
    return this.#members.get(this.#you)?.member;
  }

  /** Becomes a member, if the server lets it. Resolves once the members are known. */
  async join(state?: S): Promise<void> {
    // The server counts anew for a new membership.
    if (!this.#joins && (!this.#you || this.#leaving)) this.#number = 0;
    this.#joins = true;
    if (state !== undefined) this.#state = state;
    this.#tell(Action.Join, state ?? null);
    await new Promise<void>((resolve, reject) => this.#joining.push({ resolve, reject }));
  }

  leave(): void {
    const isIn = this.#joins || this.#you > 0;
    this.#joins = false;
    this.#tell(Action.Leave);
    if (isIn) this.#leaving += 1;
  }

  /** Says something else of this page. Of states that follow each other fast, the newest is sent. */
  setState(state: S): void {
    this.#number += 1;
    this.#state = state;
    const known = this.#members.get(this.#you);
    if (known) this.#changed(this.#put(known.version, { ...known.member, state }, 'state'));
    this.#newest.publish(this);
  }

  /** Sends an event to all others. Throws like `AppSession.emit`, and if the page is no member. */
  send(event: string, value?: unknown): void {
    if (!this.#you) throw new Error(`The page is not a member of the room ${this.name}.`);
    this.#host.put(Kind.RoomEvent, { room: this.name, id: this.#you, name: event }, value);
  }

  /** Calls `handler` for each event of this name, until the returned function is called. */
  on<T = unknown>(event: string, handler: RoomHandler<S, T>): () => void {
    return this.#handlers.add(event, handler as RoomHandler<S, never>);
  }

  /** Calls `watcher` now and after each change, until the returned function is called. */
  watch(watcher: RoomWatcher<S>): () => void {
    const remove = this.#watchers.add('', watcher);
    this.#run(() => watcher(this.#present, 'members'));
    return remove;
  }

  /** Sends the newest state. Internal. */
  sendNewest(): void {
    // Its membership has ended, and perhaps another one has begun.
    if (!this.#number) return;
    const version = this.#leaving ? 0 : this.#version;
    this.#tell(Action.State, { number: this.#number, version, state: this.#state });
  }

  /** Takes a unit of this room. Throws `Undecodable`. Internal. */
  receive(unit: Unit): void {
    const { kind, action, id, name } = unit;
    const isEvent = kind === Kind.RoomEvent;
    if (isEvent && !this.#handlers.has(name)) return;
    const value = this.#host.formats.decode(unit);
    if (isEvent) this.#handlers.tell(this.label, name, value as never, this.#members.get(id)?.member);
    else if (action === Action.Members) this.#list(value as List<S>);
    else if (action === Action.Member || action === Action.Left) this.#changes([value as Told<S>]);
    else if (action === Action.Changes) this.#changes(value as Told<S>[]);
    else if (action === Action.Missed) this.#run(() => this.onmissed?.(value as number));
    else if (action === Action.Out) this.#out(value as { reason: RoomOut; text: string });
  }

  /** Begins anew with a new session, or ends. Internal. */
  reset(isOver: boolean): void {
    this.#forget();
    this.#number = this.#leaving = 0;
    if (isOver || !this.#joins) this.#fail('the session is over');
    else this.#tell(Action.Join, this.#state ?? null);
  }

  #tell(action: Action, value?: unknown): void {
    this.#host.put(Kind.Room, { room: this.name, action }, value);
  }

  #list({ version, you, number, first, last, members }: List<S>): void {
    if (first) this.#partial = [];
    this.#partial.push(...members);
    if (!last) return;
    this.#version = version;
    this.#you = you ?? 0;
    this.#members.clear();
    for (const member of this.#partial) this.#members.set(member.id, { version, member: this.#withState(member, number) });
    this.#partial = [];
    this.#changed(['members']);
    for (const { resolve } of this.#joining.splice(0)) resolve();
  }

  /** The page's own state is newer than what the server knew when it had so many of them. */
  #withState(member: Member<S>, number: number | undefined): Member<S> {
    const isNewer = member.id === this.#you && this.#number > 0 && number !== this.#number;
    return isNewer ? { ...member, state: this.#state as S } : member;
  }

  #changes(all: readonly Told<S>[]): void {
    this.#changed(...all.map((told) => (told.change ? this.#change(told) : this.#leave(told))).filter((news) => news !== undefined));
  }

  #change({ version, change, member, number }: Known<S> & { change: RoomChange; number?: number }): News<S> | undefined {
    const known = this.#members.get(member.id);
    // A state may come late: after a later change, or after its member has left.
    const isLate = known ? version <= known.version : change === 'state';
    // Without a number it is a state that this page has set.
    const isOwn = member.id === this.#you && number === undefined;
    return isLate || isOwn || version <= this.#version ? undefined : this.#put(version, this.#withState(member, number), change);
  }

  #put(version: number, member: Member<S>, change: RoomChange): News<S> {
    this.#members.set(member.id, { version, member });
    return [change, member];
  }

  #leave({ version, id }: { version: number; id: number }): News<S> | undefined {
    const known = this.#members.get(id);
    if (!known || version <= this.#version) return undefined;
    this.#members.delete(id);
    return ['left', known.member];
  }

  #out({ reason, text }: { reason: RoomOut; text: string }): void {
    const hasLeft = reason === 'left' && this.#leaving > 0;
    this.#leaving = hasLeft ? this.#leaving - 1 : 0;
    this.#forget();
    // It has joined again since then.
    if (hasLeft && this.#joins) return;
    this.#joins = false;
    this.#number = 0;
    this.#fail(text || reason);
    this.#run(() => this.onout?.(reason, text));
  }

  #forget(): void {
    this.#you = this.#version = 0;
    this.#partial = [];
    this.#members.clear();
    if (this.#present.length) this.#changed(['members']);
  }

  #fail(why: string): void {
    for (const { reject } of this.#joining.splice(0)) reject(new Error(`The page is not in the room ${this.name}: ${why}.`));
  }

  #changed(...news: News<S>[]): void {
    if (!news.length) return;
    const present = [...this.#members.values()].map((known) => known.member);
    this.#present = present;
    for (const change of news) this.#watchers.tell(this.label, '', present, ...change);
  }

  #run(handler: () => unknown): void {
    this.#host.run(this.label, handler);
  }
}
