import { Room, type RoomHost } from './room';
import type { Unit } from './unit';

/** Most rooms that the page knows of. */
const MOST = 1024;

/** The rooms of a session by name. What the server says of one is kept until the page asks for it. */
export class Rooms {
  readonly #host: RoomHost;
  readonly #byName = new Map<string, Room<never>>();

  constructor(host: RoomHost) {
    this.#host = host;
  }

  get<S>(name: string): Room<S> {
    const room = this.#byName.get(name) ?? new Room<never>(name, this.#host);
    this.#byName.set(name, room);
    return room as unknown as Room<S>;
  }

  /** Takes a unit from the server. Throws `Undecodable`. */
  receive(unit: Unit): void {
    if (this.#byName.size < MOST || this.#byName.has(unit.room)) this.get(unit.room).receive(unit);
  }

  /** Begins anew with a new session, or ends. */
  reset(isOver: boolean): void {
    for (const room of this.#byName.values()) room.reset(isOver);
  }
}
