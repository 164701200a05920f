import type { Piece } from './piece';
/** Values that both sides set and watch: `observable`. */
export declare const observables: Piece<'observable'>;
