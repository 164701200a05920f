import type { Piece } from './piece';
/** Rooms, whose members see each other: `room`. */
export declare const rooms: Piece<'room'>;
