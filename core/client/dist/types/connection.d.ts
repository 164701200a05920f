import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
/** Does what a machine asks of the outside: opens and closes connections, sends, and wakes it in time. */
export declare class ConnectionLoop {
    #private;
    /** Where the next connection goes, `http:` or `https:`. */
    url: string;
    constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void);
    /** The kind of the connection in use: `websocket`, `http` or one that was registered. */
    get kind(): string;
    /** Where to connect, and by which kind first. */
    direct(url: string, preferred: string | undefined): void;
    /** The network has changed: what did not get through may do so now. */
    wake(): void;
    /** Sends what is ready, then does what is asked: in this order a `leave` goes out before its close. */
    flush(): void;
}
