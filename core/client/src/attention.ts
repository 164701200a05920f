import type { Environment } from './environment';

const EVENTS = ['focus', 'pointerdown', 'keydown'];
/** Minimum time in milliseconds between two reports. */
const PAUSE = 1000;

/** Reports user activity on the page while it is switched on. */
export class Attention {
  readonly #environment: Environment;
  readonly #told: () => void;
  #listening: AbortController | undefined;
  #toldAt = -Infinity;

  constructor(environment: Environment, told: () => void) {
    this.#environment = environment;
    this.#told = told;
  }

  watch(isWanted: boolean): void {
    if (isWanted === !!this.#listening) return;
    this.#listening?.abort();
    this.#listening = isWanted ? new AbortController() : undefined;
    if (!this.#listening) return;
    const { signal } = this.#listening;
    // In the capture phase, because an application may stop an event from bubbling.
    for (const type of EVENTS) this.#environment.addEventListener(type, () => this.#notice(), { signal, passive: true, capture: true });
  }

  #notice(): void {
    const now = this.#environment.performance.now();
    if (now - this.#toldAt < PAUSE) return;
    this.#toldAt = now;
    this.#told();
  }
}
