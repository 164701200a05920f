import type { Message } from './inbox';
import type { Action, MachineEvent } from './machine_event';
import type { Phase } from './phase';
import { type Bytes, type Lane, type Limits } from './wire';
export { OutboxFull, SessionOver, TooLarge } from './errors';
export type { CodeClass } from './codes';
export type { Action, MachineEvent, Outcome } from './machine_event';
export type { Bytes, Lane, Limits, Message, Phase };
export interface MachineOptions {
    secret: Uint8Array;
    /** 16 random bytes, drawn once for the life of the page. */
    document: Uint8Array;
    limits: Limits;
    /** Highest charge of each lane's outbox. */
    outbox?: number | undefined;
    /** Returns numbers evenly distributed in [0, 1). */
    random: () => number;
    /** Returns true if this document does not take over a session that another document had. */
    declines?: () => boolean;
}
/**
 * One document's half of the protocol, without timers, sockets or randomness of its own.
 *
 * After every input, poll frames for the connection in use, then actions and events, until there
 * are none. Transmit a `leave` before you carry out the close among the actions. Times are in
 * milliseconds, never go back, and continue while the computer sleeps. Handle frames that have
 * arrived before `handleTimeout`.
 */
export declare class DocumentMachine {
    #private;
    constructor({ secret, document, limits, outbox, random, declines }: MachineOptions);
    get phase(): Phase;
    get incarnation(): number;
    /** Highest size of a message in bytes. */
    get messageLimit(): number;
    start(now: number): void;
    /** Waits for another ticket, as before the start; what is sent until then is for its session. */
    standBy(): void;
    /** Ends the wait for another ticket: there will be none. */
    giveUp(): void;
    /** Replaces the ticket of a document that no server has welcomed; what was sent stays in the outbox. */
    present(secret: Uint8Array, limits: Limits, now: number): void;
    /** Handles a connection that has opened: hello becomes due. */
    handleOpen(connection: number, now: number): void;
    /** Handles bytes that arrived. Those of an older connection are dropped. */
    handleFrame(connection: number, bytes: Bytes, now: number): void;
    /**
     * Handles a connection that is gone. `code` is its close code, or 1006 if it had none. A
     * transport that wants to be left alone says for how long in `wait`, which counts like a wait
     * that the server asked for.
     */
    handleClose(connection: number, code: number, now: number, wait?: number): void;
    /** Does whatever is due by `pollTimeout`. */
    handleTimeout(now: number): void;
    /** Handles a page that came online, became visible, or was shown again. */
    handleWake(now: number): void;
    /** Connects now, even if the server asked for a wait. */
    handleRetry(now: number): void;
    /** Handles a page that was hidden or shown. */
    handleHidden(hidden: boolean, now: number): void;
    /** Handles a page that goes away; nothing more happens until `handleWake`. */
    handleLeave(_now: number): void;
    /** Copies the message into the lane's outbox, or throws `OutboxFull`, `TooLarge` or `SessionOver`. */
    send(lane: Lane, payload: Uint8Array, _now: number): void;
    /** Returns the lane's next message. Each lane gives one at a time: release it before you take the next. */
    take(lane: Lane): Message | undefined;
    /** Releases the message that was taken, and with it the credit that it holds. */
    release(lane: Lane, now: number): void;
    /** Ends the session because a message that was taken cannot be inflated; `code` is Malformed or TooLarge. */
    failInflate(code: number, _now: number): void;
    /** Asks for a ping on the connection in use; returns the nonce of the `pong` event. A lost connection drops its pings. */
    ping(_now: number): number;
    /** Returns the next frame to write on a connection. Set `bulkAllowed` while the transport has little buffered. */
    pollTransmit(connection: number, bulkAllowed: boolean, now: number): Bytes | undefined;
    /** Returns the next instruction to the transport. */
    pollAction(): Action | undefined;
    /** Returns the next event. */
    pollEvent(): MachineEvent | undefined;
    /** Returns when to call `handleTimeout` and then `pollTransmit`. */
    pollTimeout(): number | undefined;
    /** Returns the charge of what the lane's outbox holds. */
    bufferedCharge(lane: Lane): number;
    /** Returns the charge of what the lane's inbox holds: half assembled, waiting and taken. */
    inboxCharge(lane: Lane): number;
    /** Returns the number of messages that the server has not acknowledged. */
    unacknowledgedMessages(): number;
}
