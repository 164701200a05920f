import { Room, type RoomHost } from './room';
import type { Unit } from './unit';
/** The rooms of a session by name. What the server says of one is kept until the page asks for it. */
export declare class Rooms {
    #private;
    constructor(host: RoomHost);
    get<S>(name: string): Room<S>;
    /** Takes a unit from the server. Throws `Undecodable`. */
    receive(unit: Unit): void;
    /** Begins anew with a new session, or ends. */
    reset(isOver: boolean): void;
}
