import { isPromise, type LaneName } from '../delivery';
import type { Environment } from '../environment';
import type { Session } from '../session';
import type { Bytes } from '../wire';
import type { AppOptions } from './app_session';
import { FAILURES } from './call_error';
import { encodeHead, encodeText, FAILURE_LIMIT, type Fields, Kind } from './unit';
import { Values, withContent } from './value';

/** The parts of a browser that the layer uses. */
export type AppEnvironment = Pick<Environment, 'addEventListener' | 'setTimeout' | 'clearTimeout' | 'performance' | 'console'>;

/** Milliseconds until an answer that found the outbox full is sent again. */
const RETRY = 100;

/** What the pieces of the layer share in a session. What it sends throws like `Session.send`. */
export class Host {
  readonly raw: Session;
  readonly options: AppOptions<never>;
  readonly environment: AppEnvironment;
  readonly formats: Values;
  /** Told of a handler that threw. */
  readonly failed: (source: string, error: unknown) => void;
  /** Charge of everything sent in the interactive lane so far. */
  #charged = 0;

  constructor(raw: Session, options: AppOptions<never>, environment: AppEnvironment, failed: (source: string, error: unknown) => void) {
    this.raw = raw;
    this.options = options;
    this.environment = environment;
    this.formats = new Values(options.codec);
    this.failed = failed;
  }

  /** Sends a value. Also throws for a value that cannot be encoded. */
  put(kind: Kind, fields: Fields, value?: unknown): void {
    const head = encodeHead(kind, fields);
    this.#send(value === undefined ? new Uint8Array(head) : this.formats.encode(head, value));
  }

  content(kind: Kind, fields: Fields, content: Uint8Array, lane?: LaneName): void {
    this.#send(withContent(encodeHead(kind, fields), content), lane);
  }

  /** Answers a call with a failure, as soon as there is room. */
  refuse(id: number, failure: (typeof FAILURES)[number], text: string): void {
    this.insist(() => this.content(Kind.Failure, { id, code: FAILURES.indexOf(failure) }, encodeText(text, FAILURE_LIMIT)), () => {});
  }

  /** Sends, again and again while the outbox is full: somebody waits for it, until `signal` is aborted. */
  insist(send: () => void, failed: (error: unknown) => void, signal?: AbortSignal): void {
    try {
      send();
    } catch (error) {
      const { name } = error as Error;
      if (name === 'OutboxFull' && !signal?.aborted) this.environment.setTimeout(() => this.insist(send, failed, signal), RETRY);
      else if (signal || name !== 'SessionOver') failed(error);
    }
  }

  /** Runs a handler of the application. The result never rejects. */
  run(source: string, run: () => unknown): unknown {
    const failed = (error: unknown): void => this.failed(source, error);
    try {
      const returned = run();
      return isPromise(returned) ? returned.then(undefined, failed) : undefined;
    } catch (error) {
      return failed(error);
    }
  }

  /** Position of the last unit. `acknowledged` reaches it when the server has that unit. */
  get position(): number {
    return this.#charged;
  }

  get acknowledged(): number {
    const waiting = this.raw.bufferedAmount('interactive');
    // A renewal begins with an empty outbox, and other limits change the charge of what waits.
    return waiting ? this.#charged - waiting : Infinity;
  }

  #send(unit: Bytes, lane?: LaneName): void {
    const { raw } = this;
    if (lane === 'bulk') return raw.sendBulk(unit);
    const before = raw.bufferedAmount('interactive');
    raw.send(unit);
    this.#charged += raw.bufferedAmount('interactive') - before;
  }
}
