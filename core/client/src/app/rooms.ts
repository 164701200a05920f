import type { Host } from './host';
import { NewestValues } from './newest';
import type { Part, Piece } from './piece';
import { Room } from './room';
import { Kind, type Unit } from './unit';

/** Most rooms that the page knows of. */
const MOST = 1024;

/** Rooms, whose members see each other: `room`. */
export const rooms: Piece<'room'> = (host) => new Rooms(host);

/** The rooms of a session by name. What the server says of one is kept until the page asks for it. */
class Rooms implements Part {
  readonly accepted = [Kind.Room, Kind.RoomEvent];
  readonly methods = { room: (name: string) => this.#get(name) };
  readonly #host: Host;
  readonly #newest: NewestValues;
  readonly #byName = new Map<string, Room>();

  constructor(host: Host) {
    this.#host = host;
    this.#newest = new NewestValues(host);
  }

  receive(unit: Unit): void {
    if (this.#byName.size < MOST || this.#byName.has(unit.room)) this.#get(unit.room).receive(unit);
  }

  reset(isOver: boolean): void {
    this.#newest.drop();
    for (const room of this.#byName.values()) room.reset(isOver);
  }

  flush(): void {
    this.#newest.flush();
  }

  #get(name: string): Room {
    const room = this.#byName.get(name) ?? new Room(name, this.#host, this.#newest);
    this.#byName.set(name, room);
    return room;
  }
}
