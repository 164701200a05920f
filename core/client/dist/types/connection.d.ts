import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
import { type Obstacle } from './obstacle';
/** Does what a machine asks of the outside: opens and closes connections, sends, and wakes it in time. */
export declare class ConnectionLoop {
    #private;
    /** Where the next connection goes, `http:` or `https:`. */
    url: string;
    constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void);
    /** The kind of the connection in use: `websocket`, `streamed`, `polled` or one that was registered. */
    get kind(): string;
    /** What the last attempts met. */
    get obstacle(): Obstacle | null;
    /** Where to connect, and by which kind first. */
    direct(url: string, preferred: string | undefined): void;
    /** The network has changed, or somebody says so (`isAsked`): what did not get through may do so now. */
    wake(isAsked?: boolean): void;
    /** Sends what is ready, then does what is asked: in this order a `leave` goes out before its close. */
    flush(): void;
}
