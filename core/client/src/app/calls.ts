import type { Environment } from '../environment';
import { CallError, type CallFailure, FAILURES } from './call_error';
import type { Outgoing } from './outgoing';
import { CREDIT, Stream } from './stream';
import { decodeText, Kind, type Unit } from './unit';
import { decodeValue } from './value';

export interface CallOptions {
  /** Milliseconds to wait for the answer. By default, a call waits until the session is over. */
  readonly timeout?: number;
  /** Cancels the call when aborted. The other side stops too, if its handler heeds that. */
  readonly signal?: AbortSignal;
}

/** Ends one call's wait. */
interface Waiting {
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
export class Calls {
  readonly #outgoing: Outgoing;
  readonly #environment: Pick<Environment, 'setTimeout' | 'clearTimeout'>;
  readonly #limit: number;
  readonly #waiting = new Map<number, Waiting>();
  /** Random at first, so that answers to an earlier document's calls mean nothing. */
  #next = Math.floor(Math.random() * 2 ** 52);

  constructor(outgoing: Outgoing, limit: number, environment: Pick<Environment, 'setTimeout' | 'clearTimeout'>) {
    this.#outgoing = outgoing;
    this.#limit = limit;
    this.#environment = environment;
  }

  /**
   * Resolves with the answer. Rejects with a `CallError`; and with `OutboxFull`, `TooLarge` or the
   * error of the codec if the call cannot be sent.
   */
  call(name: string, query: unknown, options: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => void this.#start(name, query, 0, { resolve, reject }, options));
  }

  /** Returns the items of the answer. The iterator rejects as `call` does. */
  stream(name: string, query: unknown, options: CallOptions): Stream {
    const more = (count: number): void => this.#outgoing.value(Kind.More, { id: call!.id, count }, undefined);
    const stream = new Stream({ more, cancel: () => call?.abandon(new CallError('cancelled', `The stream ${name} was left.`)) });
    const waiting = { resolve: (answer: unknown) => stream.finish(answer), reject: (error: unknown) => stream.fail(error), push: (item: Unit) => stream.push(item) };
    const call = this.#start(name, query, CREDIT, waiting, options);
    return stream;
  }

  answer({ id, bytes, at }: Unit): void {
    const waiting = this.#waiting.get(id);
    try {
      waiting?.resolve(decodeValue(bytes, at));
    } catch (error) {
      waiting!.reject(new CallError('answer-undecodable', (error as Error).message, { cause: error }));
    }
  }

  fail({ id, code, bytes, at }: Unit): void {
    const failure = FAILURES[code] as CallFailure;
    this.#waiting.get(id)?.reject(new CallError(failure, decodeText(bytes, at) || `The call ${failure}.`));
  }

  item(item: Unit): void {
    this.#waiting.get(item.id)?.push?.(item);
  }

  /** Rejects every call that waits. */
  end(text: string): void {
    for (const { reject } of [...this.#waiting.values()]) reject(new CallError('over', text));
  }

  /** Sends a call. Returns undefined if it was rejected at once. */
  #start(name: string, query: unknown, credit: number, waiting: Waiting, { timeout, signal }: CallOptions): Started | undefined {
    const reject = (error: unknown): undefined => void waiting.reject(error);
    if (signal?.aborted) return reject(cancelled(name, signal));
    if (this.#waiting.size >= this.#limit) return reject(new CallError('busy', `${this.#limit} calls wait for their answers.`));
    const id = this.#next++;
    try {
      this.#outgoing.value(Kind.Call, { id, credit, name }, query);
    } catch (error) {
      const isOver = (error as Error).name === 'SessionOver';
      return reject(isOver ? new CallError('over', (error as Error).message, { cause: error }) : error);
    }
    return { id, abandon: this.#wait(id, name, waiting, timeout, signal) };
  }

  #wait(id: number, name: string, waiting: Waiting, timeout: number | undefined, signal: AbortSignal | undefined): Started['abandon'] {
    const environment = this.#environment;
    let timer: unknown;
    const release = (): void => {
      this.#waiting.delete(id);
      if (timer !== undefined) environment.clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const abandon = (error: CallError): void => {
      release();
      waiting.reject(error);
      try {
        this.#outgoing.value(Kind.Cancel, { id }, undefined);
      } catch {
        // The outbox is full or the session over: the answer will be ignored.
      }
    };
    const abort = (): void => abandon(cancelled(name, signal!));
    signal?.addEventListener('abort', abort);
    if (timeout !== undefined) timer = environment.setTimeout(() => abandon(new CallError('timed-out', `No answer to ${name} within ${timeout} ms.`)), timeout);
    this.#waiting.set(id, {
      ...waiting,
      resolve: (answer) => (release(), waiting.resolve(answer)),
      reject: (error) => (release(), waiting.reject(error)),
    });
    return abandon;
  }
}

function cancelled(name: string, signal: AbortSignal): CallError {
  return new CallError('cancelled', `The call ${name} was cancelled.`, { cause: signal.reason });
}
