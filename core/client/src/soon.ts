import type { Environment } from './environment';

/**
 * Runs a function in a separate task, after the events already queued. It uses a message because
 * browsers delay timers in hidden tabs, but not messages.
 */
export function soon({ MessageChannel }: Pick<Environment, 'MessageChannel'>, run: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    run();
  };
  port2.postMessage(0);
}
