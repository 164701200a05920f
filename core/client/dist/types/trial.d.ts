import type { Environment } from './environment';
/**
 * Finds out whether the server is heard over a kind of connection, without asking for a session.
 */
export declare function isHeardOver(kind: string, url: string, environment: Environment, signal: AbortSignal): Promise<boolean>;
