import type { CodeClass } from './codes';

export type Outcome = 'opened' | 'resumed' | 'restored';

export type Action =
  | { type: 'connect'; connection: number }
  | { type: 'close'; connection: number; code: number };

/** `retryAt` is on the caller's clock, `undefined` while the machine rests or will not try again. */
export type MachineEvent =
  | { type: 'welcomed'; outcome: Outcome; incarnation: number }
  | { type: 'disconnected'; code: number; text: string; retryAt: number | undefined }
  | { type: 'refused'; code: number; class: CodeClass; text: string; retryAt: number | undefined }
  | { type: 'ended'; code: number; reason: number; retryAfter: number; text: string; unacknowledged: number }
  | { type: 'pong'; nonce: number; roundTrip: number };
