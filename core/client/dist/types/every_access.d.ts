import type { Access } from './access';
import type { Environment } from './environment';
import { type OpenConnection } from './kinds';
import { type Obstacle } from './obstacle';
/** Uses WebSockets, or HTTP requests where WebSockets do not get through. */
export declare class EveryAccess implements Access {
    #private;
    constructor(environment: Environment);
    /** `websocket`, `streamed`, `polled` or a registered kind. */
    get kind(): string;
    get obstacle(): Obstacle | null;
    get nextTrial(): number;
    get opener(): OpenConnection | undefined;
    prefer(kind: string | undefined): void;
    reset(now: number, isAsked: boolean): void;
    begin(): number;
    succeed(now: number): void;
    fail(isSilent: boolean, url: string, now: number): void;
    lose(life: number, bytes: number, now: number): void;
    wait(now: number): number;
    tryBetter(url: string, now: number, isWanted: () => boolean): Promise<boolean>;
}
