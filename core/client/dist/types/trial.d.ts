import type { Environment } from './environment';
/** Whether the server is heard over a kind of connection. No session is asked for. */
export declare function isHeardOver(kind: string, url: string, environment: Environment, signal: AbortSignal): Promise<boolean>;
