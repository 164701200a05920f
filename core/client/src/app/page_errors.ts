import type { Environment } from '../environment';
import type { Outgoing } from './outgoing';
import { Rate } from './rate';
import { encodeText, Kind } from './unit';

/** Reports to the server in each minute. */
const MOST = 10;
/** Greatest sizes in bytes of UTF-8, 4 KiB together. */
const MESSAGE = 1024;
const SOURCE = 512;
const STACK = 2560;

const decoder = new TextDecoder();

/** Reports the page's errors to the server. */
export class PageErrors {
  readonly #outgoing: Outgoing;
  readonly #rate: Rate;

  constructor(outgoing: Outgoing, environment: Pick<Environment, 'performance'>) {
    this.#outgoing = outgoing;
    this.#rate = new Rate(MOST, () => environment.performance.now());
  }

  /** Reports uncaught errors and unhandled rejections until `signal` is aborted. */
  watch(environment: Pick<Environment, 'addEventListener'>, signal: AbortSignal): void {
    environment.addEventListener('error', (event) => {
      const { error, message, filename, lineno, colno } = event as ErrorEvent;
      // A resource that does not load fires this event too, but has no message.
      if (message) this.report(filename ? `${filename}:${lineno}:${colno}` : 'error', error ?? message);
    }, { signal });
    environment.addEventListener('unhandledrejection', (event) => this.report('unhandledrejection', (event as PromiseRejectionEvent).reason), { signal });
  }

  /** Reports an error, unless too many were reported within the minute. Never throws. */
  report(source: string, error: unknown): void {
    try {
      if (!this.#rate.take()) return;
      const { message = error, stack } = Object(error) as { message?: unknown; stack?: unknown };
      this.#outgoing.value(Kind.Error, {}, {
        message: clipped(String(message), MESSAGE),
        ...(stack ? { stack: clipped(String(stack), STACK) } : {}),
        source: clipped(source, SOURCE),
      });
    } catch {
      // There is no room, no session, or the error itself has no text.
    }
  }
}

function clipped(text: string, limit: number): string {
  return decoder.decode(encodeText(text, limit));
}
