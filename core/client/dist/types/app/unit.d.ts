import { type Bytes } from '../wire';
/** What a unit is: its first byte. */
export declare enum Kind {
    Bytes = 0,
    Text = 1,
    Message = 2,
    Event = 3,
    Call = 4,
    Answer = 5,
    Failure = 6,
    Cancel = 7,
    Set = 8,
    Item = 9,
    More = 10,
    Error = 11,
    Room = 12,
    RoomEvent = 13
}
/** The fields between a unit's kind and its content. Which ones a kind has, `FIELDS` says. */
export interface Fields {
    /** Number of a call, chosen by its caller; or the member that sends an event of a room. */
    id?: number;
    /** Name of a room: 1 to 255 bytes of UTF-8. */
    room?: string;
    /** What a unit says about a room. */
    action?: number;
    /** Name of an event, a call or an observable: 1 to 255 bytes of UTF-8. */
    name?: string;
    /** Code of a failure. */
    code?: number;
    /** Number of items that a caller allows at first. */
    credit?: number;
    /** Number of further items that a caller allows. */
    count?: number;
    /** Number of the page's newest set of an observable. */
    number?: number;
}
/** A received unit. Its content begins at `at` and is not decoded yet. */
export interface Unit extends Required<Fields> {
    readonly kind: Kind;
    readonly bytes: Bytes;
    readonly at: number;
}
/** Greatest length of a failure's text in bytes of UTF-8. */
export declare const FAILURE_LIMIT = 1024;
/**
 * Returns the bytes of a unit up to its content. Throws a `RangeError` for a name that is empty or
 * too long.
 */
export declare function encodeHead(kind: Kind, fields?: Fields): number[];
/** Decodes everything but the content of a server's unit. Throws `Undecodable`. */
export declare function decodeUnit(bytes: Bytes): Unit;
/** Returns the text in UTF-8, cut off between two characters if it is longer than `limit` bytes. */
export declare function encodeText(text: string, limit?: number): Bytes;
/** Decodes UTF-8. Throws `Undecodable` for anything else. */
export declare function decodeText(bytes: Bytes, from: number, to?: number): string;
