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
    /** When the silence after a probe has lasted too long. */
    probedUntil: number | undefined;
    /** Detects the loss of what was written last. */
    readonly tail: Tail;
    constructor(connection: number, heartbeat: number, lanes: Lanes, pings: Pings, now: number);
    /** Handles any frame but `end`; returns true if it brought new data. */
    handleFrame(frame: ServerFrame, now: number): boolean;
    /** Asks for a sign of life. */
    probe(now: number): void;
    /** Asks for a sign of life, or whether the last frames arrived; returns false if the connection has been silent for too long. */
    handleTimeout(now: number): boolean;
    /** Returns the next frame to write. */
    pollTransmit(bulkAllowed: boolean, now: number): Bytes | undefined;
    /** Returns when `handleTimeout` is due if no frame arrives. */
    pollTimeout(): number;
}
