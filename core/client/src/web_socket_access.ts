import type { Access } from './access';
import type { Environment } from './environment';
import { type OpenConnection, openWebSocket, WEB_SOCKET } from './kinds';
import type { Obstacle } from './obstacle';

/** Uses WebSockets and registered kinds only. */
export class WebSocketAccess implements Access {
  kind = '';
  obstacle: Obstacle | null = null;
  readonly nextTrial = Infinity;
  readonly #environment: Environment;
  #preferred = WEB_SOCKET;
  /** Number of consecutive unanswered attempts. */
  #failures = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  get opener(): OpenConnection | undefined {
    return this.kind === WEB_SOCKET ? (handlers) => openWebSocket(this.#environment, handlers) : undefined;
  }

  prefer(kind = WEB_SOCKET): void {
    this.#preferred = kind;
  }

  reset(): void {
    this.#failures = 0;
  }

  begin(): number {
    // A registered kind that failed twice may be blocked, or its script may be missing.
    this.kind = this.#failures % 3 === 2 ? WEB_SOCKET : this.#preferred;
    return Infinity;
  }

  succeed(): void {
    this.#failures = this.kind === this.#preferred ? 0 : 2;
    this.obstacle = null;
  }

  fail(_isSilent: boolean, url: string): void {
    this.#failures += 1;
    this.obstacle = { kind: 'unreachable', status: 0, text: `${url} cannot be reached, or WebSockets do not get through` };
  }

  lose(): void {}

  wait(): number {
    return 0;
  }

  tryBetter(): Promise<boolean> {
    return Promise.resolve(false);
  }
}
