/** Close codes of the protocol (PROTOCOL.md, section 11). The hundreds are the class. */
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
/** Why a session is over; 0 if it is not (PROTOCOL.md, section 11). */
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
/** What a code tells the client to do: never present this ticket again, try later, reconnect now, or nothing (`ignore`). */
export type CodeClass = 'never' | 'later' | 'now' | 'ignore';
/** Returns the class of any code, known or not. A code that is not the protocol's, such as 1006, is `now`. */
export declare function classOf(code: number): CodeClass;
