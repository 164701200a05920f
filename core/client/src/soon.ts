import type { Environment } from './environment';

/** Runs a function in a task of its own, after the events that already wait. Browsers delay timers in hidden tabs, but not messages. */
export function soon({ MessageChannel }: Pick<Environment, 'MessageChannel'>, run: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    run();
  };
  port2.postMessage(0);
}
