import type { Host } from './host';
import type { Kind, Unit } from './unit';

/** A piece of the layer at work in one session. */
export interface Part {
  /** Functions that the session gets under these names. */
  readonly methods?: Readonly<Record<string, (...values: never[]) => unknown>>;
  /** The kinds of units that it receives. */
  readonly accepted?: readonly Kind[];
  /** Takes a unit from the server. Throws `Undecodable` or `MissingPiece`. */
  receive?(unit: Unit): void;
  /** Begins anew with a new session, or ends. `why` is for people. */
  reset?(isOver: boolean, why: string): void;
  /** Sends what can be sent, after a change of the session's status. */
  flush?(): void;
  /** Told of a handler that failed. */
  report?(source: string, error: unknown): void;
}

/** A piece of the layer, which gives the session the methods of these `Names`. */
export type Piece<Names extends string = string> = ((host: Host) => Part) & { readonly names?: Names };

/** What this needs was not given to `attachOnly`. The text names the piece. */
export class MissingPiece extends Error {
  override readonly name = 'MissingPiece';
}

export function lacking(piece: string): never {
  throw new MissingPiece(`This needs the piece "${piece}", which the page has not given to attachOnly().`);
}
