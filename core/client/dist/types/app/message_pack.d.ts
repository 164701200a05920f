import type { Piece } from './piece';
/** Values in MessagePack, which the server sends if it is built with that codec. */
export declare const messagePack: Piece<never>;
