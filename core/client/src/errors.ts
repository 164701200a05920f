import { Code } from './codes';

/** `send`: the lane's outbox has no room for the message until more is acknowledged. */
export class OutboxFull extends Error {
  override readonly name = 'OutboxFull';
}

/** `send`: the message is longer than the session's message limit. */
export class TooLarge extends Error {
  override readonly name = 'TooLarge';
}

/** `send`: the session is over. */
export class SessionOver extends Error {
  override readonly name = 'SessionOver';
}

/** The peer broke the protocol; `code` is the one to close with. */
export class Violation extends Error {
  constructor(readonly code: number, text: string) {
    super(text);
  }
}

/** What was written before a ping has not come when its pong is written: as a gap. */
export class Loss extends Violation {
  constructor() {
    super(Code.Gap, 'what was sent has not come');
  }
}

export function unexpected(): never {
  throw new Violation(Code.Malformed, 'unexpected frame');
}
