import { CallError, type CallFailure, FAILURES } from './call_error';
import type { Host } from './host';
import type { Part, Piece } from './piece';
import { CREDIT, Stream } from './stream';
import { decodeText, Kind, type Unit } from './unit';

export interface CallOptions {
  /** Milliseconds to wait for the answer. By default, a call waits until the session is over. */
  readonly timeout?: number;
  /** Cancels the call when aborted. The other side stops too, if its handler heeds that. */
  readonly signal?: AbortSignal;
}

/** Calls of the server's handlers: `call`. */
export const calls: Piece<'call'> = (host) => new Calls(host);

/** Calls, and those whose answer is a stream: `call` and `stream`. Takes the place of `calls`. */
export const streams: Piece<'call' | 'stream'> = (host) => {
  const calls = new Calls(host);
  const stream = (name: string, query: unknown, options?: CallOptions): Stream => {
    const stream = new Stream(host, {
      more: (count) => host.put(Kind.More, { id: call!.id, count }),
      stop: () => call?.abandon(new CallError('cancelled', `The stream ${name} was left.`)),
    });
    const call = calls.start(name, query, CREDIT, stream, options);
    return stream;
  };
  Object.assign(calls.methods, { stream });
  return calls;
};

/** Waits for the end of a call. */
export interface Waiting {
  resolve(answer: unknown): void;
  reject(error: unknown): void;
  /** Takes an item of a streamed answer. */
  push?(item: Unit): void;
}

/** A call that was sent. */
interface Started {
  readonly id: number;
  /** Rejects the call, which must not be over, and tells the other side. */
  abandon(error: CallError): void;
}

/** The page's calls that wait for an answer. */
class Calls implements Part {
  readonly accepted = [Kind.Answer, Kind.Failure, Kind.Item];
  readonly methods = {
    call: (name: string, query: unknown, options?: CallOptions) => new Promise((resolve, reject) => void this.start(name, query, 0, { resolve, reject }, options)),
  };
  readonly #host: Host;
  /** `release` ends the wait. */
  readonly #waiting = new Map<number, { readonly waiting: Waiting; release(): void }>();
  /** Random at first, so that answers to an earlier document's calls mean nothing. */
  #next = Math.floor(Math.random() * 2 ** 52);

  constructor(host: Host) {
    this.#host = host;
  }

  receive(unit: Unit): void {
    const { kind, id, code, bytes, at } = unit;
    const { waiting, release } = this.#waiting.get(id) ?? {};
    if (!waiting) return;
    if (kind === Kind.Item) return waiting.push?.(unit);
    const text = kind === Kind.Failure && decodeText(bytes, at);
    release!();
    if (text !== false) return waiting.reject(new CallError(FAILURES[code] as CallFailure, text || `The call ${FAILURES[code]}.`));
    try {
      waiting.resolve(this.#host.formats.decode(unit));
    } catch (error) {
      waiting.reject(undecodable(error));
    }
  }

  /** Rejects every call that waits. */
  reset(isOver: boolean, why: string): void {
    const end = (): void => {
      for (const { waiting, release } of [...this.#waiting.values()]) {
        release();
        waiting.reject(new CallError('over', why));
      }
    };
    // The last messages of a session are delivered after the news of its end.
    if (isOver) this.#host.environment.setTimeout(end, 0);
    else end();
  }

  /**
   * Sends a call. Rejects it with a `CallError`; and with `OutboxFull`, `TooLarge` or the error of
   * the codec if it cannot be sent. Returns undefined if it was rejected at once.
   */
  start(name: string, query: unknown, credit: number, waiting: Waiting, { timeout, signal }: CallOptions = {}): Started | undefined {
    const { environment, options } = this.#host;
    const { waitingCalls: limit = 1024 } = options;
    const cancelled = (): CallError => new CallError('cancelled', `The call ${name} was cancelled.`, { cause: signal!.reason });
    const reject = (error: unknown): undefined => void waiting.reject(error);
    if (signal?.aborted) return reject(cancelled());
    if (this.#waiting.size >= limit) return reject(new CallError('busy', `${limit} calls wait for their answers.`));
    const id = this.#next++;
    try {
      this.#host.put(Kind.Call, { id, credit, name }, query);
    } catch (error) {
      const { name, message } = error as Error;
      return reject(name === 'SessionOver' ? new CallError('over', message, { cause: error }) : error);
    }
    const release = (): void => {
      this.#waiting.delete(id);
      if (timer !== undefined) environment.clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const abandon = (error: CallError): void => {
      release();
      waiting.reject(error);
      try {
        this.#host.put(Kind.Cancel, { id });
      } catch {
        // The outbox is full or the session over: the answer will be ignored.
      }
    };
    const abort = (): void => abandon(cancelled());
    signal?.addEventListener('abort', abort);
    const timer = timeout === undefined ? timeout : environment.setTimeout(() => abandon(new CallError('timed-out', `No answer to ${name} within ${timeout} ms.`)), timeout);
    this.#waiting.set(id, { waiting, release });
    return { id, abandon };
  }
}

/** Returns what a call rejects with whose answer, or an item of it, cannot be decoded. */
export function undecodable(error: unknown): CallError {
  return new CallError('answer-undecodable', (error as Error).message, { cause: error });
}
