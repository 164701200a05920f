import type { Environment } from './environment';
/** Runs something in a task of its own, after the events that wait already. A message does not wait in hidden tabs as a timer does. */
export declare function soon({ MessageChannel }: Pick<Environment, 'MessageChannel'>, run: () => void): void;
