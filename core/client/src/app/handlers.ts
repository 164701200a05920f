import type { Environment } from '../environment';
import { CallError, FAILURES } from './call_error';
import type { Outgoing } from './outgoing';
import { FAILURE_LIMIT, Kind, type Unit } from './unit';
import { decodeValue } from './value';

/** `signal` is aborted when the caller no longer waits, and when the session is over. */
export type CallHandler = (query: unknown, context: { readonly signal: AbortSignal }) => unknown;

/** Milliseconds until an answer that found the outbox full is sent again. */
const RETRY = 100;

/** Runs the handlers of the server's calls. */
export class Handlers {
  readonly #outgoing: Outgoing;
  readonly #most: { readonly running: number; readonly waiting: number };
  readonly #environment: Pick<Environment, 'setTimeout'>;
  /** Told of a handler that threw. */
  readonly #failed: (source: string, error: unknown) => void;
  readonly #handlers = new Map<string, CallHandler>();
  /** Calls that are running or waiting, and that nobody has cancelled. */
  readonly #controllers = new Map<number, AbortController>();
  readonly #waiting = new Map<number, Unit>();
  /** What resumes the streams that may not send another item yet. */
  /** How many items the server takes of each call's answer. */
  readonly #credits = new Map<number, number>();
  readonly #resumes = new Map<number, () => void>();
  /** Handlers that have not returned, cancelled or not. */
  #running = 0;

  constructor(
    outgoing: Outgoing,
    most: { readonly running: number; readonly waiting: number },
    environment: Pick<Environment, 'setTimeout'>,
    failed: (source: string, error: unknown) => void,
  ) {
    this.#outgoing = outgoing;
    this.#most = most;
    this.#environment = environment;
    this.#failed = failed;
  }

  /** Sets the handler of a name, and returns a function that removes it. */
  set(name: string, handler: CallHandler): () => void {
    this.#handlers.set(name, handler);
    return () => {
      if (this.#handlers.get(name) === handler) this.#handlers.delete(name);
    };
  }

  receive(call: Unit): void {
    const { id, name } = call;
    if (!this.#handlers.has(name)) return this.#refuse(id, 'missing', `The page has no handler for ${name}.`);
    const isFree = this.#running < this.#most.running;
    if (!isFree && this.#waiting.size >= this.#most.waiting) return this.#refuse(id, 'busy', `${this.#most.waiting} calls wait for the page.`);
    this.#controllers.set(id, new AbortController());
    this.#credits.set(id, call.credit);
    if (isFree) void this.#run(call);
    else this.#waiting.set(id, call);
  }

  cancel(id: number): void {
    const controller = this.#controllers.get(id);
    if (!controller) return;
    this.#controllers.delete(id);
    this.#waiting.delete(id);
    this.#credits.delete(id);
    this.#refuse(id, 'cancelled', '');
    controller.abort();
  }

  /** Lets the handler of a call send further items of its stream. */
  more({ id, count }: Unit): void {
    const call = this.#credits.get(id);
    if (call === undefined) return;
    this.#credits.set(id, call + count);
    this.#resumes.get(id)?.();
  }

  /** Drops everything: nobody waits any more. */
  end(): void {
    const controllers = [...this.#controllers.values()];
    this.#controllers.clear();
    this.#waiting.clear();
    this.#credits.clear();
    for (const controller of controllers) controller.abort();
  }

  async #run(call: Unit): Promise<void> {
    const { id } = call;
    const controller = this.#controllers.get(id)!;
    this.#running += 1;
    const settle = await this.#outcome(call, controller.signal);
    this.#running -= 1;
    if (this.#controllers.get(id) === controller) {
      this.#controllers.delete(id);
      this.#credits.delete(id);
      settle();
    }
    this.#runNext();
  }

  /** Runs the handler. Returns what answers the call, if nobody has cancelled it meanwhile. */
  async #outcome({ id, name, credit, bytes, at }: Unit, signal: AbortSignal): Promise<() => void> {
    let query: unknown;
    try {
      query = decodeValue(bytes, at);
    } catch (error) {
      return () => this.#refuse(id, 'undecodable', (error as Error).message);
    }
    const handler = this.#handlers.get(name);
    if (!handler) return () => this.#refuse(id, 'missing', `The page no longer has a handler for ${name}.`);
    try {
      let answer = await handler(query, { signal });
      const items = (answer as Partial<AsyncIterable<unknown>> | null | undefined)?.[Symbol.asyncIterator];
      if (items) {
        if (!credit) return () => this.#refuse(id, 'streamed', '');
        answer = await this.#stream(id, items.call(answer), signal);
      }
      return () => this.#answer(id, name, answer);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (error instanceof CallError && error.code === 'rejected') return () => this.#refuse(id, 'rejected', text);
      return () => {
        this.#failed(`call ${name}`, error);
        this.#refuse(id, 'failed', text);
      };
    }
  }

  /** Sends items as the server wants them. Returns the answer. */
  async #stream(id: number, items: AsyncIterator<unknown>, signal: AbortSignal): Promise<unknown> {
    while (!signal.aborted) {
      const credit = this.#credits.get(id);
      if (!credit) {
        await new Promise<void>((resume) => {
          this.#resumes.set(id, resume);
          signal.addEventListener('abort', () => resume(), { once: true });
        });
        this.#resumes.delete(id);
        continue;
      }
      const { done, value } = await items.next();
      if (done) return value;
      this.#credits.set(id, this.#credits.get(id)! - 1);
      if (signal.aborted) break;
      try {
        await new Promise<void>((sent, failed) => this.#send(() => sent(this.#outgoing.value(Kind.Item, { id }, value)), failed, signal));
      } catch (error) {
        await items.return?.();
        throw error;
      }
    }
    await items.return?.();
    return undefined;
  }

  #runNext(): void {
    const [next] = this.#waiting;
    if (!next || this.#running >= this.#most.running) return;
    this.#waiting.delete(next[0]);
    void this.#run(next[1]);
  }

  #answer(id: number, name: string, answer: unknown): void {
    this.#send(() => this.#outgoing.value(Kind.Answer, { id }, answer), (error) => {
      this.#failed(`call ${name}`, error);
      this.#refuse(id, 'failed', `The answer cannot be sent: ${(error as Error).message}`);
    });
  }

  #refuse(id: number, failure: (typeof FAILURES)[number], text: string): void {
    const code = FAILURES.indexOf(failure);
    this.#send(() => this.#outgoing.text(Kind.Failure, { id, code }, text, FAILURE_LIMIT), () => {});
  }

  /** Sends, again and again while the outbox is full: somebody waits for it, until `signal` is aborted. */
  #send(send: () => void, failed: (error: unknown) => void, signal?: AbortSignal): void {
    try {
      send();
    } catch (error) {
      const { name } = error as Error;
      if (name === 'OutboxFull' && !signal?.aborted) this.#environment.setTimeout(() => this.#send(send, failed, signal), RETRY);
      else if (signal || name !== 'SessionOver') failed(error);
    }
  }
}
