import type { Environment } from './environment';
/**
 * Runs a function in a separate task, after the events already queued. It uses a message because
 * browsers delay timers in hidden tabs, but not messages.
 */
export declare function soon({ MessageChannel }: Pick<Environment, 'MessageChannel'>, run: () => void): void;
