import type { Environment } from '../environment';
import type { Session } from '../session';
import type { Outgoing } from './outgoing';
/** Something of which only the newest value is sent. */
export interface Newest {
    /** What it is called in reports. */
    readonly source: string;
    /** Sends the value that it has now. */
    put(outgoing: Outgoing): void;
}
/** Sends newest values. Of each, one value at a time is on its way. */
export declare class NewestValues {
    #private;
    constructor(raw: Session, outgoing: Outgoing, environment: Pick<Environment, 'setTimeout'>, report: (source: string, error: unknown) => void);
    /** Sends the newest value now, or once the previous one has arrived. */
    publish(newest: Newest): void;
    /** Sends what can be sent, after a change of the session's status. */
    flush(): void;
    /** Drops what was not sent. */
    drop(): void;
}
