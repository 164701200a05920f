/** `send`: the lane's outbox has no room for the message until more is acknowledged. */
export declare class OutboxFull extends Error {
    readonly name = "OutboxFull";
}
/** `send`: the message is longer than the session's message limit. */
export declare class TooLarge extends Error {
    readonly name = "TooLarge";
}
/** `send`: the session is over. */
export declare class SessionOver extends Error {
    readonly name = "SessionOver";
}
/** The peer broke the protocol; `code` is the one to close with. */
export declare class Violation extends Error {
    readonly code: number;
    constructor(code: number, text: string);
}
/** What was written before a ping has not come when its pong is written: as a gap. */
export declare class Loss extends Violation {
    constructor();
}
export declare function unexpected(): never;
