/** Close codes of the protocol (PROTOCOL.md, section 11). The hundreds digit is the class. */
export declare enum Code {
    Unknown = 4100,
    WrongSecret = 4101,
    Ended = 4102,
    Superseded = 4103,
    Duplicate = 4104,
    Forbidden = 4105,
    Version = 4106,
    Malformed = 4107,
    TooLarge = 4108,
    Flood = 4109,
    Draining = 4200,
    Full = 4201,
    Busy = 4202,
    HelloDeadline = 4300,
    Silent = 4301,
    Replaced = 4302,
    Gap = 4303,
    Stale = 4400
}
/** Why a session ended; 0 if it has not (PROTOCOL.md, section 11). */
export declare enum Reason {
    None = 0,
    Finished = 1,
    Closed = 2,
    Aborted = 3,
    NeverConnected = 4,
    Expired = 5,
    Disconnected = 6,
    MemoryPressure = 7,
    Draining = 8,
    Panicked = 9,
    Malformed = 10,
    TooLarge = 11,
    Flood = 12,
    Full = 13
}
/**
 * What a code tells the client to do: never present this ticket again, retry later, reconnect now,
 * or do nothing (`ignore`).
 */
export type CodeClass = 'never' | 'later' | 'now' | 'ignore';
/**
 * Returns the class of any code, known or not. Codes outside the protocol, such as 1006, are `now`.
 */
export declare function classOf(code: number): CodeClass;
