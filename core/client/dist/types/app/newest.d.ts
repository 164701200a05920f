import type { Host } from './host';
/** Something of which only the newest value is sent. */
export interface Newest {
    /** What it is called in reports. */
    readonly label: string;
    /** Sends the value that it has now. */
    sendNewest(): void;
}
/** Sends newest values. Of each, one value at a time is on its way. */
export declare class NewestValues {
    #private;
    constructor(host: Host);
    /** Sends the newest value now, or once the previous one has arrived. */
    publish(newest: Newest): void;
    /** Sends what can be sent, after a change of the session's status. */
    flush(): void;
    /** Drops what was not sent. */
    drop(): void;
}
