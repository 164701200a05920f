import type { Environment } from './environment';
import type { DocumentMachine } from './machine';
/** Does what a machine asks of the outside: opens and closes WebSockets, sends, and wakes it in time. */
export declare class ConnectionLoop {
    #private;
    /** Where the next connection goes. */
    url: string;
    constructor(machine: DocumentMachine, now: () => number, environment: Environment, handled: () => void);
    /** Sends what is ready, then does what is asked: in this order a `leave` goes out before its close. */
    flush(): void;
}
