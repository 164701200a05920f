// The names of codes and reasons as text. The reverse mapping of the enums would contain each name
// three times and make the script 2.5% larger.

const CODES = [
  'Unknown WrongSecret Ended Superseded Duplicate Forbidden Version Malformed TooLarge Flood',
  'Draining Full Busy',
  'HelloDeadline Silent Replaced Gap',
  'Stale',
];
const REASONS = ' Finished Closed Aborted NeverConnected Expired Disconnected MemoryPressure Draining Panicked Malformed TooLarge Flood Full';

/** Returns the name of a code; empty for a code that is not the protocol's. */
export function nameOfCode(code: number): string {
  return wordOf(CODES[Math.floor(code / 100) - 41], code % 100);
}

/** Returns the name of a reason; empty for 0 and for a reason that is not the protocol's. */
export function nameOfReason(reason: number): string {
  return wordOf(REASONS, reason);
}

function wordOf(words: string | undefined, index: number): string {
  return words?.split(' ')[index] ?? '';
}
