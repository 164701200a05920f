/** Failures as they travel; the position is the code. */
export const FAILURES = ['', 'failed', 'rejected', 'missing', 'undecodable', 'cancelled', 'busy', 'streamed'] as const;

/**
 * Why a call has no answer. From the other side: its handler `failed` (it threw), `rejected` the
 * call, is `missing`, or cannot take the value (`undecodable`); it confirmed that the call was
 * `cancelled`; it is `busy`; it answers with a stream (`streamed`). From this side: `cancelled` by
 * the signal, `timed-out`, `answer-undecodable`, `busy` (too many calls wait), or `over`: the
 * session has ended or was renewed, and the call may have been executed or not.
 */
export type CallFailure = Exclude<(typeof FAILURES)[number], ''> | 'timed-out' | 'answer-undecodable' | 'over';

/**
 * What a call rejects with. A handler that throws one with the code `rejected` answers with its
 * text.
 */
export class CallError extends Error {
  override readonly name = 'CallError';

  constructor(
    readonly code: CallFailure,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
