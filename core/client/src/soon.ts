import type { Environment } from './environment';

/** Runs something in a task of its own, after the events that wait already. A message does not wait in hidden tabs as a timer does. */
export function soon({ MessageChannel }: Pick<Environment, 'MessageChannel'>, run: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    run();
  };
  port2.postMessage(0);
}
