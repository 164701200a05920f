import type { Access } from './access';
import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
/** Drives a machine: opens and closes connections, sends frames, and runs the timer. */
export declare class ConnectionLoop {
    #private;
    /** Address of the next connection, with the scheme `http:` or `https:`. */
    url: string;
    /** Opens the connections. */
    readonly access: Access;
    constructor(machine: DocumentMachine, access: Access, now: () => number, environment: Environment, handled: () => void);
    /** Sets the address and the kind to try first. */
    direct(url: string, preferred: string | undefined): void;
    /**
     * Sends the frames that are ready, then performs the actions. This order sends a `leave` before
     * its close.
     */
    flush(): void;
}
