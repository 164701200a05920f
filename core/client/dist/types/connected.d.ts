import type { Lanes } from './lanes';
import type { Pings } from './pings';
import { Tail } from './tail';
import { type Bytes, type ServerFrame } from './wire';
/** A connection on which the server has welcomed the document. */
export declare class Connected {
    #private;
    readonly phase = "connected";
    readonly connection: number;
    /** Time of the last frame. */
    heardAt: number;
    /** Deadline for a frame after a probe. */
    probedUntil: number | undefined;
    /** Detects the loss of the last frames written. */
    readonly tail: Tail;
    constructor(connection: number, heartbeat: number, lanes: Lanes, pings: Pings, now: number);
    /** Handles any frame but `end`; returns true if it brought new data. */
    handleFrame(frame: ServerFrame, now: number): boolean;
    /** Sends a ping and sets a deadline for the next frame. */
    probe(now: number): void;
    /**
     * Sends a ping after silence, or to check that the last frames arrived. Returns false if the
     * connection has been silent for too long.
     */
    handleTimeout(now: number): boolean;
    /** Returns the next frame to write. */
    pollTransmit(bulkAllowed: boolean, now: number): Bytes | undefined;
    /** Returns when `handleTimeout` is due if no frame arrives. */
    pollTimeout(): number;
}
