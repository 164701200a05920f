import type { LaneName } from '../delivery';
import type { Session } from '../session';
import { type Fields, Kind, type Unit } from './unit';
import { type Codec } from './value';
/** Sends units. Everything it has throws like `Session.send`. */
export declare class Outgoing {
    #private;
    constructor(raw: Session, codec: Codec | undefined);
    /** Sends a value. Also throws for a value that cannot be encoded. */
    value(kind: Kind, fields: Fields, value: unknown): void;
    /** Goes over to the format of the server's values, unless the page has chosen one. */
    adopt({ kind, bytes, at }: Unit): void;
    /** Sends text, cut off after `limit` bytes. */
    text(kind: Kind, fields: Fields, text: string, limit?: number): void;
    content(kind: Kind, content: Uint8Array, lane: LaneName): void;
    /** Position of the last unit. `acknowledged` reaches it when the server has that unit. */
    get position(): number;
    get acknowledged(): number;
}
