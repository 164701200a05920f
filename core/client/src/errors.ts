import { Code } from './codes';
import type { Environment } from './environment';

/** Thrown by `send` if the lane's outbox has no room until the server acknowledges more. */
export class OutboxFull extends Error {
  override readonly name = 'OutboxFull';
}

/** Thrown by `send` if the message is longer than the session's limit. */
export class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/** Thrown by `send` if the session is over. */
export class SessionOver extends Error {
  override readonly name = 'SessionOver';
}

/** Thrown when the server violates the protocol; `code` is the close code. */
export class Violation extends Error {
  constructor(readonly code: number, text: string) {
    super(text);
  }
}

/** Thrown when a pong shows that frames written before its ping were lost; handled like a gap. */
export class Loss extends Violation {
  constructor() {
    super(Code.Gap, 'frames before a ping are missing');
  }
}

/** Says that a hook of the application has thrown. */
export function complain({ console }: Pick<Environment, 'console'>, hook: string, error: unknown): void {
  console.error(`stillhere: ${hook} failed; the session continues.`, error);
}

export function unexpected(): never {
  throw new Violation(Code.Malformed, 'unexpected frame');
}
