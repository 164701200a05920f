import type { Environment } from './environment';
/** Runs a function in a task of its own, after the events that already wait. Browsers delay timers in hidden tabs, but not messages. */
export declare function soon({ MessageChannel }: Pick<Environment, 'MessageChannel'>, run: () => void): void;
