import type { Environment } from './environment';

const EVENTS = ['focus', 'pointerdown', 'keydown'];
/** Milliseconds between two that count. */
const PAUSE = 1000;

/** Tells that the user does something with the page, while that is asked for. */
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
    // On the way down, for an application may keep an event to itself.
    for (const type of EVENTS) this.#environment.addEventListener(type, () => this.#notice(), { signal, passive: true, capture: true });
  }

  #notice(): void {
    const now = this.#environment.performance.now();
    if (now - this.#toldAt < PAUSE) return;
    this.#toldAt = now;
    this.#told();
  }
}
