import { type Message } from './inbox';
import type { Action, MachineEvent, Phase } from './machine_event';
import { type Bytes, type Lane, type Limits } from './wire';
export { OutboxFull, SessionOver, TooLarge } from './errors';
export type { CodeClass } from './codes';
export type { Action, MachineEvent, Outcome, Phase } from './machine_event';
export type { Bytes, Lane, Limits, Message };
export interface MachineOptions {
    secret: Uint8Array;
    /** 16 random bytes, drawn once for the life of the page. */
    document: Uint8Array;
    limits: Limits;
    /** Most charge of a lane's outbox. */
    outbox?: number;
    /** Evenly distributed in [0, 1). */
    random: () => number;
    /** Whether a session that another document had is none for this one. */
    declines?: () => boolean;
}
/**
 * One document's half of the protocol, without timers, sockets or chance of its own.
 *
 * After every input, poll: frames for the connection in use, then actions and events, until there are none; a `leave` must be transmitted before
 * its close appears among the actions. Times are in milliseconds, never go back, and go on while the machine sleeps. Frames that have
 * arrived are to be handled before `handleTimeout`.
 */
export declare class DocumentMachine {
    #private;
    constructor({ secret, document, limits, outbox, random, declines }: MachineOptions);
    get phase(): Phase;
    get incarnation(): number;
    /** The most bytes of a message. */
    get messageLimit(): number;
    start(now: number): void;
    /** Waits as before the start: another ticket is to come, and what is sent is for its session. */
    standBy(): void;
    /** There is to be no other ticket. */
    giveUp(): void;
    /** Another ticket in place of the one so far, while no server has welcomed this document; what was sent stays in the outbox. */
    present(secret: Uint8Array, limits: Limits, now: number): void;
    handleOpen(connection: number, now: number): void;
    handleFrame(connection: number, bytes: Bytes, now: number): void;
    /**
     * `code` is the one the transport closed with, 1006 when nothing better is known. `wait`: what carries the connections wants to be left alone
     * for so long, as if the server had said so with a code of class *later*.
     */
    handleClose(connection: number, code: number, now: number, wait?: number): void;
    handleTimeout(now: number): void;
    /** The page woke: `online`, visible or `pageshow`. */
    handleWake(now: number): void;
    /** Somebody wants a connection now, whatever was said about waiting. */
    handleRetry(now: number): void;
    handleHidden(hidden: boolean, now: number): void;
    /** The page is going away; nothing more happens until `handleWake`. */
    handleLeave(_now: number): void;
    /** Copies the message into the lane's outbox, or throws `OutboxFull`, `TooLarge` or `SessionOver`. */
    send(lane: Lane, payload: Uint8Array, _now: number): void;
    /** The lane's next message; one at a time is in hand, until `release`. */
    take(lane: Lane): Message | undefined;
    /** The handler of the message in hand has returned: its credit goes back. */
    release(lane: Lane, now: number): void;
    /** What was taken cannot be inflated: `code` is Malformed or TooLarge, and the session is over. */
    failInflate(code: number, _now: number): void;
    /** Pings on the connection in use, or in the making, and is forgotten with it; the `pong` event carries the nonce returned here. */
    ping(_now: number): number;
    /** The next frame for the connection; the credit of the counts in it is taken as told. */
    pollTransmit(connection: number, bulkAllowed: boolean, now: number): Bytes | undefined;
    pollAction(): Action | undefined;
    pollEvent(): MachineEvent | undefined;
    /** When `handleTimeout` is due, and then `pollTransmit`. */
    pollTimeout(): number | undefined;
    /** Charge of what the lane's outbox holds. */
    bufferedCharge(lane: Lane): number;
    /** Charge of what the lane's inbox holds: half assembled, waiting and in hand. */
    inboxCharge(lane: Lane): number;
    unacknowledgedMessages(): number;
}
