import type { Environment } from './environment';
/**
 * Returns true if the server answers over a kind of connection. Does not ask for a session.
 */
export declare function isHeardOver(kind: string, url: string, environment: Environment, signal: AbortSignal): Promise<boolean>;
