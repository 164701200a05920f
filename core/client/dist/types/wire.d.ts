/** 0 interactive, 1 bulk. */
export type Lane = 0 | 1;
/** Bytes that a socket takes and gives; never shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;
/** The session's limits in bytes. The ticket and every welcome contain them. */
export interface Limits {
    fragment: number;
    message: number;
    inflated: number;
    window: number;
    bulkWindow: number;
}
/**
 * For each lane: how much the frame's sender has received (a sequence), and how much it grants (a
 * charge).
 */
export interface Counts {
    received: readonly [number, number];
    credit: readonly [number, number];
}
export declare enum Type {
    Hello = 1,
    Confirm = 2,
    Leave = 3,
    Offer = 16,
    Welcome = 17,
    End = 18,
    Ack = 32,
    Ping = 33,
    Pong = 34,
    Data = 64
}
/** Flags of a data frame, added to its type; the first is the lane. */
export declare enum Flag {
    Bulk = 1,
    More = 2,
    Compressed = 4
}
/** Charge of a data frame beyond its payload. */
export declare const FRAME_CHARGE = 64;
/** A frame that a server may send. */
export type ServerFrame = {
    type: Type.Offer;
} | ({
    type: Type.Welcome;
    incarnation: number;
    epoch: number;
    heartbeat: number;
    keep: number;
    limits: Limits;
} & Counts) | {
    type: Type.End;
    code: number;
    reason: number;
    retryAfter: number;
    text: string;
} | ({
    type: Type.Ack;
} & Counts) | ({
    type: Type.Ping | Type.Pong;
    nonce: number;
} & Counts) | {
    type: Type.Data;
    flags: number;
    sequence: number;
    payload: Bytes;
};
/** Encodes a frame: its type, the raw bytes before its numbers, its numbers, and its payload. */
export declare function encode(type: number, numbers?: readonly number[], payload?: Uint8Array | never[], before?: readonly number[]): Bytes;
/**
 * Decodes a frame from the server. Payloads are views of `bytes`. Throws a `Violation` with code
 * Malformed.
 */
export declare function decode(bytes: Bytes): ServerFrame;
/** Appends a number as a varint. */
export declare function pushNumber(bytes: number[], number: number): void;
/** Decodes a varint from the bytes that `next` returns. Calls `bad` if it is too long or too large. */
export declare function takeNumber(next: () => number, bad: () => never): number;
