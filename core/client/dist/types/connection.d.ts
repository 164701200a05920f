import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
import { type Obstacle } from './obstacle';
/** Drives a machine: opens and closes connections, sends frames, and runs the timer. */
export declare class ConnectionLoop {
    #private;
    /** Address of the next connection, with the scheme `http:` or `https:`. */
    url: string;
    constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void);
    /** Kind of the connection in use: `websocket`, `streamed`, `polled` or a registered one. */
    get kind(): string;
    /** Obstacle found by the latest attempts. */
    get obstacle(): Obstacle | null;
    /** Sets the address and the kind to try first. */
    direct(url: string, preferred: string | undefined): void;
    /**
     * Forgets failures because the network has changed, or because the application asks to retry
     * (`isAsked`).
     */
    wake(isAsked?: boolean): void;
    /**
     * Sends the frames that are ready, then performs the actions. This order sends a `leave` before
     * its close.
     */
    flush(): void;
}
