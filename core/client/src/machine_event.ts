import type { CodeClass } from './codes';

export type Outcome = 'opened' | 'resumed' | 'restored';

export type Action =
  | { type: 'connect'; connection: number }
  | { type: 'close'; connection: number; code: number };

/**
 * Event of the machine. `retryAt` uses the caller's clock; it is `undefined` if no attempt is
 * scheduled.
 */
export type MachineEvent =
  | { type: 'welcomed'; outcome: Outcome; incarnation: number }
  | { type: 'disconnected'; code: number; text: string; retryAt: number | undefined }
  | { type: 'refused'; code: number; class: CodeClass; text: string; retryAt: number | undefined }
  | { type: 'ended'; code: number; reason: number; retryAfter: number; text: string; unacknowledged: number }
  | { type: 'pong'; nonce: number; roundTrip: number };
