import type { Access } from './access';
import type { Environment } from './environment';
import { type OpenConnection } from './kinds';
import type { Obstacle } from './obstacle';
/** Uses WebSockets and registered kinds only. */
export declare class WebSocketAccess implements Access {
    #private;
    kind: string;
    obstacle: Obstacle | null;
    readonly nextTrial: number;
    constructor(environment: Environment);
    get opener(): OpenConnection | undefined;
    prefer(kind?: string): void;
    reset(): void;
    begin(): number;
    succeed(): void;
    fail(_isSilent: boolean, url: string): void;
    lose(): void;
    wait(): number;
    tryBetter(): Promise<boolean>;
}
