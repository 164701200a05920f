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
    /** 16 random bytes, generated once per page. */
    document: Uint8Array;
    limits: Limits;
    /** Maximum charge of each lane's outbox. */
    outbox?: number | undefined;
    /** Returns numbers evenly distributed in [0, 1). */
    random: () => number;
    /** Returns true if this document declines a session that another document had. */
    declines?: () => boolean;
}
/**
 * One document's side of the protocol. Time, sockets and randomness come from the caller.
 *
 * After every input, poll frames for the connection in use, then actions and events, until there
 * are none. Send a `leave` before you perform its close. Times are in milliseconds, never go back,
 * and continue while the computer sleeps. Handle frames that have arrived before you call
 * `handleTimeout`.
 */
export declare class DocumentMachine {
    #private;
    constructor({ secret, document, limits, outbox, random, declines }: MachineOptions);
    get phase(): Phase;
    get incarnation(): number;
    start(now: number): void;
    /** Waits for another ticket, as before the start. Messages sent meanwhile go to its session. */
    standBy(): void;
    /** Stops waiting for another ticket, because none will come. */
    giveUp(): void;
    /**
     * Replaces the ticket of a document that no server has welcomed. Sent messages stay in the
     * outbox.
     */
    present(secret: Uint8Array, limits: Limits, now: number): void;
    /** Handles an opened connection: hello becomes due. */
    handleOpen(connection: number, now: number): void;
    /** Handles a received frame. Drops those of older connections. */
    handleFrame(connection: number, bytes: Bytes, now: number): void;
    /**
     * Handles a closed connection. `code` is its close code, or 1006 if it had none. A transport that
     * must not be used for a while passes that time as `wait`, which has the effect of a wait
     * requested by the server.
     */
    handleClose(connection: number, code: number, now: number, wait?: number): void;
    /** Performs what is due at `pollTimeout`. */
    handleTimeout(now: number): void;
    /** Handles a page that came online, became visible, or was shown again. */
    handleWake(now: number): void;
    /** Connects now, even if the server requested a wait. */
    handleRetry(now: number): void;
    /** Handles a page that was hidden or shown. */
    handleHidden(hidden: boolean, now: number): void;
    /** Handles a page that goes away. The machine stays idle until `handleWake`. */
    handleLeave(_now: number): void;
    /**
     * Copies the message into the lane's outbox, or throws `OutboxFull`, `TooLarge` or `SessionOver`.
     */
    send(lane: Lane, payload: Uint8Array, _now: number): void;
    /** Returns the lane's next message. Release it before you take another one from this lane. */
    take(lane: Lane): Message | undefined;
    /** Releases the message that was taken, and the credit withheld for it. */
    release(lane: Lane, now: number): void;
    /**
     * Ends the session because a message that was taken cannot be inflated; `code` is Malformed or
     * TooLarge.
     */
    failInflate(code: number, _now: number): void;
    /**
     * Requests a ping on the connection in use; returns the nonce of its `pong` event. Pings of a
     * lost connection get no event.
     */
    ping(_now: number): number;
    /**
     * Returns the next frame to write on a connection. Set `bulkAllowed` while the transport buffers
     * little.
     */
    pollTransmit(connection: number, bulkAllowed: boolean, now: number): Bytes | undefined;
    /** Returns the next instruction to the transport. */
    pollAction(): Action | undefined;
    /** Returns the next event. */
    pollEvent(): MachineEvent | undefined;
    /** Returns when to call `handleTimeout` and then `pollTransmit`. */
    pollTimeout(): number | undefined;
    /** Returns the charge of the lane's outbox. */
    bufferedCharge(lane: Lane): number;
    /** Returns the charge of the lane's inbox: incomplete, waiting and taken messages. */
    inboxCharge(lane: Lane): number;
    /** Returns the number of messages that the server has not acknowledged. */
    unacknowledgedMessages(): number;
}
