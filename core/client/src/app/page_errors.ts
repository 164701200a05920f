import type { Host } from './host';
import type { Part, Piece } from './piece';
import { Rate } from './rate';
import { encodeText, Kind } from './unit';

/** Reports to the server in each minute. */
const MOST = 10;
/** Greatest sizes in bytes of UTF-8, 4 KiB together. */
const MESSAGE = 1024;
const SOURCE = 512;
const STACK = 2560;

/** Reports of the page's errors to the server, unless the option `reportErrors` is false. */
export const pageErrors: Piece<never> = (host) => (host.options.reportErrors === false ? {} : new PageErrors(host));

/** Reports uncaught errors, unhandled rejections and failing handlers until the session is over. */
class PageErrors implements Part {
  readonly #host: Host;
  readonly #rate: Rate;
  /** Removes the listeners when aborted. */
  readonly #watching = new AbortController();

  constructor(host: Host) {
    const { environment } = (this.#host = host);
    this.#rate = new Rate(MOST, environment);
    const { signal } = this.#watching;
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
      this.#host.put(Kind.Error, {}, {
        message: clipped(message, MESSAGE),
        stack: stack ? clipped(stack, STACK) : undefined,
        source: clipped(source, SOURCE),
      });
    } catch {
      // There is no room, no session, or the error itself has no text.
    }
  }

  reset(isOver: boolean): void {
    if (isOver) this.#watching.abort();
  }
}

function clipped(text: unknown, limit: number): string {
  return new TextDecoder().decode(encodeText(String(text), limit));
}
