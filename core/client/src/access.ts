import type { Environment } from './environment';
import type { OpenConnection } from './kinds';
import type { Obstacle } from './obstacle';

/** Chooses the kind of each connection, opens it, and learns from what becomes of it. */
export interface Access {
  /** Kind of the connection in use, or of the current attempt. */
  readonly kind: string;
  /** Obstacle found by the latest attempts. */
  readonly obstacle: Obstacle | null;
  /** When `tryBetter` is due. */
  readonly nextTrial: number;
  /** Opens a connection of this kind. Undefined if the kind is a registered one. */
  readonly opener: OpenConnection | undefined;

  /** Sets the kind to try first. */
  prefer(kind: string | undefined): void;

  /**
   * Forgets failures because the network has changed, or because the application asks to retry
   * (`isAsked`).
   */
  reset(now: number, isAsked: boolean): void;

  /** Begins an attempt. Returns how many milliseconds it may wait for an answer. */
  begin(): number;

  /** Records that the attempt was answered. */
  succeed(now: number): void;

  /** Records the end of an attempt without an answer; `isSilent` if it reached its deadline. */
  fail(isSilent: boolean, url: string, now: number): void;

  /**
   * Records the loss of an answered connection after `life` milliseconds and `bytes` bytes from the
   * server.
   */
  lose(life: number, bytes: number, now: number): void;

  /** Returns how many milliseconds no attempt is of use. */
  wait(now: number): number;

  /**
   * Tries a better kind than the one in use. If the server answers and `isWanted` returns true,
   * the kind is used from then on, and the result is true.
   */
  tryBetter(url: string, now: number, isWanted: () => boolean): Promise<boolean>;
}

export type AccessFor = (environment: Environment) => Access;
