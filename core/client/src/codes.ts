/** Close codes of the protocol (PROTOCOL.md, section 11). The hundreds digit is the class. */
export enum Code {
  Unknown = 4100,
  WrongSecret = 4101,
  Ended = 4102,
  Superseded = 4103,
  Duplicate = 4104,
  Forbidden = 4105,
  Version = 4106,
  Malformed = 4107,
  TooLarge = 4108,
  Flood = 4109,
  Draining = 4200,
  Full = 4201,
  Busy = 4202,
  HelloDeadline = 4300,
  Silent = 4301,
  Replaced = 4302,
  Gap = 4303,
  Stale = 4400,
}

/** Why a session ended; 0 if it has not (PROTOCOL.md, section 11). */
export enum Reason {
  None,
  Finished,
  Closed,
  Aborted,
  NeverConnected,
  Expired,
  Disconnected,
  MemoryPressure,
  Draining,
  Panicked,
  Malformed,
  TooLarge,
  Flood,
  Full,
}

/**
 * What a code tells the client to do: never present this ticket again, retry later, reconnect now,
 * or do nothing (`ignore`).
 */
export type CodeClass = 'never' | 'later' | 'now' | 'ignore';

/**
 * Returns the class of any code, known or not. Codes outside the protocol, such as 1006, are `now`.
 */
export function classOf(code: number): CodeClass {
  return (['never', 'later', 'now', 'ignore'] as const)[Math.floor(code / 100) - 41] ?? 'now';
}
