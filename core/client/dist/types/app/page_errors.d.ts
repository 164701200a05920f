import type { Piece } from './piece';
/** Reports of the page's errors to the server, unless the option `reportErrors` is false. */
export declare const pageErrors: Piece<never>;
