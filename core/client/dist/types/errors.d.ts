import type { Environment } from './environment';
/** Thrown by `send` if the lane's outbox has no room until the server acknowledges more. */
export declare class OutboxFull extends Error {
    readonly name = "OutboxFull";
}
/** Thrown by `send` if the message is longer than the session's limit. */
export declare class TooLarge extends Error {
    readonly name = "TooLarge";
}
/** Thrown by `send` if the session is over. */
export declare class SessionOver extends Error {
    readonly name = "SessionOver";
}
/** Thrown when the server violates the protocol; `code` is the close code. */
export declare class Violation extends Error {
    readonly code: number;
    constructor(code: number, text: string);
}
/** Thrown when a pong shows that frames written before its ping were lost; handled like a gap. */
export declare class Loss extends Violation {
    constructor();
}
/** Says that a hook of the application has thrown. */
export declare function complain({ console }: Pick<Environment, 'console'>, hook: string, error: unknown): void;
export declare function unexpected(): never;
