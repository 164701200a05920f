import type { Access } from './access';
import type { Environment } from './environment';
import { type OpenConnection } from './kinds';
import type { Obstacle } from './obstacle';
/** Uses WebSockets only. */
export declare class WebSocketAccess implements Access {
    #private;
    readonly kind = "websocket";
    obstacle: Obstacle | null;
    constructor(environment: Environment);
    direct(url: string): void;
    reset(): void;
    begin(_connection: number, _now: number, carry: (open: OpenConnection) => void): void;
    handleFrame(): void;
    end(): void;
    forgive(): void;
    wait(): number;
}
