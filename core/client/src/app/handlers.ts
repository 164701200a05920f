import { CallError } from './call_error';
import type { Host } from './host';
import type { Part, Piece } from './piece';
import { Kind, type Unit } from './unit';

/** `signal` is aborted when the caller no longer waits, and when the session is over. */
export type CallHandler = (query: unknown, context: { readonly signal: AbortSignal }) => unknown;

/** A call that is running or waiting. */
interface Running {
  readonly call: Unit;
  readonly controller: AbortController;
  /** How many items the server takes of the answer. */
  credit: number;
  /** Resumes the stream, if it may not send another item yet. */
  resume?: () => void;
}

/** Handlers of the server's calls: `handle`. */
export const handlers: Piece<'handle'> = (host) => new Handlers(host);

/** Runs the handlers of the server's calls. */
class Handlers implements Part {
  readonly accepted = [Kind.Call, Kind.Cancel, Kind.More];
  readonly methods = { handle: (name: string, handler: CallHandler) => this.#set(name, handler) };
  readonly #host: Host;
  readonly #handlers = new Map<string, CallHandler>();
  /** Calls that nobody has cancelled. */
  readonly #calls = new Map<number, Running>();
  readonly #waiting = new Set<Running>();
  /** Number of handlers that have not returned, cancelled or not. */
  #running = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  receive(unit: Unit): void {
    const { kind, id, count } = unit;
    if (kind === Kind.Call) return this.#call(unit);
    const running = this.#calls.get(id);
    if (!running) return;
    if (kind === Kind.More) {
      running.credit += count;
      return running.resume?.();
    }
    this.#calls.delete(id);
    this.#host.refuse(id, 'cancelled', '');
    this.#abort(running);
  }

  /** Drops everything: nobody waits any more. */
  reset(): void {
    const all = [...this.#calls.values()];
    this.#calls.clear();
    for (const running of all) this.#abort(running);
  }

  #set(name: string, handler: CallHandler): () => void {
    this.#handlers.set(name, handler);
    return () => {
      if (this.#handlers.get(name) === handler) this.#handlers.delete(name);
    };
  }

  #call(call: Unit): void {
    const { id, name, credit } = call;
    const { runningCalls = 16, waitingCalls = 1024 } = this.#host.options;
    if (!this.#handlers.has(name)) return this.#host.refuse(id, 'missing', `The page has no handler for ${name}.`);
    const isFree = this.#running < runningCalls;
    if (!isFree && this.#waiting.size >= waitingCalls) return this.#host.refuse(id, 'busy', `${waitingCalls} calls wait for the page.`);
    const running: Running = { call, credit, controller: new AbortController() };
    this.#calls.set(id, running);
    if (isFree) void this.#run(running);
    else this.#waiting.add(running);
  }

  #abort(running: Running): void {
    this.#waiting.delete(running);
    running.controller.abort();
    running.resume?.();
  }

  async #run(running: Running): Promise<void> {
    const { id } = running.call;
    this.#running += 1;
    const settle = await this.#outcome(running);
    this.#running -= 1;
    if (this.#calls.get(id) === running) {
      this.#calls.delete(id);
      settle();
    }
    const [next] = this.#waiting;
    if (!next || this.#running >= (this.#host.options.runningCalls ?? 16)) return;
    this.#waiting.delete(next);
    void this.#run(next);
  }

  /** Runs the handler. Returns what answers the call, if nobody has cancelled it meanwhile. */
  async #outcome(running: Running): Promise<() => void> {
    const host = this.#host;
    const { id, name, credit } = running.call;
    const { signal } = running.controller;
    const refusal = (...failure: [failure: 'undecodable' | 'missing' | 'streamed' | 'rejected' | 'failed', text: string]) => () => host.refuse(id, ...failure);
    const failed = (error: unknown, text: string): void => {
      host.failed(`call ${name}`, error);
      host.refuse(id, 'failed', text);
    };
    let query: unknown;
    try {
      query = host.formats.decode(running.call);
    } catch (error) {
      return refusal('undecodable', (error as Error).message);
    }
    const handler = this.#handlers.get(name);
    if (!handler) return refusal('missing', `The page no longer has a handler for ${name}.`);
    try {
      let answer = await handler(query, { signal });
      const items = (answer as Partial<AsyncIterable<unknown>> | null | undefined)?.[Symbol.asyncIterator];
      if (items) {
        if (!credit) return refusal('streamed', '');
        answer = await this.#stream(running, items.call(answer));
      }
      return () => host.insist(() => host.put(Kind.Answer, { id }, answer), (error) => failed(error, `The answer cannot be sent: ${(error as Error).message}`));
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      return error instanceof CallError && error.code === 'rejected' ? refusal('rejected', text) : () => failed(error, text);
    }
  }

  /** Sends items as the server wants them. Returns the answer. */
  async #stream(running: Running, items: AsyncIterator<unknown>): Promise<unknown> {
    const host = this.#host;
    const { signal } = running.controller;
    while (!signal.aborted) {
      if (!running.credit) {
        await new Promise<void>((resume) => (running.resume = resume));
        continue;
      }
      const { done, value } = await items.next();
      if (done) return value;
      running.credit -= 1;
      if (signal.aborted) break;
      try {
        await new Promise<void>((sent, failed) => host.insist(() => sent(host.put(Kind.Item, { id: running.call.id }, value)), failed, signal));
      } catch (error) {
        await items.return?.();
        throw error;
      }
    }
    await items.return?.();
    return undefined;
  }
}
