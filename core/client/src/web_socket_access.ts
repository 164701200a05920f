import type { Access } from './access';
import type { Environment } from './environment';
import { type OpenConnection, openWebSocket, WEB_SOCKET } from './kinds';
import type { Obstacle } from './obstacle';

/** Uses WebSockets only. */
export class WebSocketAccess implements Access {
  readonly kind = WEB_SOCKET;
  obstacle: Obstacle | null = null;
  readonly #environment: Environment;
  #url = '';
  /** True if the server has answered on the connection in use, or need not answer any more. */
  #isAnswered = true;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  direct(url: string): void {
    this.#url = url;
    this.forgive();
  }

  reset(): void {}

  begin(_connection: number, _now: number, carry: (open: OpenConnection) => void): void {
    this.#isAnswered = false;
    carry((handlers) => openWebSocket(this.#environment, handlers));
  }

  handleFrame(): void {
    this.forgive();
    this.obstacle = null;
  }

  end(): void {
    if (!this.#isAnswered) this.obstacle = { kind: 'unreachable', status: 0, text: `${this.#url} cannot be reached, or WebSockets do not get through` };
  }

  forgive(): void {
    this.#isAnswered = true;
  }

  wait(): number {
    return 0;
  }
}
