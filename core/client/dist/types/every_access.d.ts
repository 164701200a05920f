import type { Access } from './access';
import type { Environment } from './environment';
import { type OpenConnection } from './kinds';
import { type Obstacle } from './obstacle';
import { type Bytes } from './wire';
/** Uses WebSockets, or HTTP requests where WebSockets do not get through, or a registered kind. */
export declare class EveryAccess implements Access {
    #private;
    constructor(environment: Environment);
    /** `websocket`, `streamed`, `polled` or a registered kind. */
    get kind(): string;
    get obstacle(): Obstacle | null;
    direct(url: string, preferred: string | undefined): void;
    reset(now: number, isAsked: boolean): void;
    begin(connection: number, now: number, carry: (open: OpenConnection) => void): void;
    handleFrame(frame: Bytes, now: number): void;
    end(now: number, isSilent?: boolean): void;
    forgive(): void;
    wait(now: number): number;
    pollTimeouts(isConnected: boolean): [number, number];
    tryBetter(now: number, isWanted: () => boolean): Promise<boolean>;
}
