import type { OpenConnection } from './kinds';
import type { Obstacle } from './obstacle';
import type { Bytes } from './wire';
/** Chooses the kind of each connection, opens it, and learns from what becomes of it. */
export interface Access {
    /** Kind of the connection in use, or of the current attempt. */
    readonly kind: string;
    /** Obstacle found by the latest attempts. */
    readonly obstacle: Obstacle | null;
    /** Sets the address of the next attempts and the kind to try first. */
    direct(url: string, preferred: string | undefined): void;
    /**
     * Forgets failures because the network has changed, or because the application asks to retry
     * (`isAsked`).
     */
    reset(now: number, isAsked: boolean): void;
    /**
     * Begins an attempt: calls `carry` with the function that opens the connection, now or when a
     * script has registered its kind. The machine's first connection has the number 1.
     */
    begin(connection: number, now: number, carry: (open: OpenConnection) => void): void;
    /** Handles a frame of the connection in use. */
    handleFrame(frame: Bytes, now: number): void;
    /** Handles the end of the attempt or connection; `isSilent` if it reached its deadline. */
    end(now: number, isSilent?: boolean): void;
    /** Learns nothing from the connection in use, because the page ends it on its own. */
    forgive(): void;
    /** Returns how many milliseconds no attempt is of use. */
    wait(now: number): number;
    /** Returns when the attempt has failed, and a better kind is to be tried. Absent if never. */
    pollTimeouts?(isConnected: boolean): readonly [giveUpAt: number, tryAt: number];
    /**
     * Tries a better kind than the one in use. If the server answers and `isWanted` returns true,
     * the kind is used from then on, and the result is true. Absent if there is no better kind.
     */
    tryBetter?(now: number, isWanted: () => boolean): Promise<boolean>;
}
