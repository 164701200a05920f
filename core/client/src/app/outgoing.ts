import type { LaneName } from '../delivery';
import type { Session } from '../session';
import type { Bytes } from '../wire';
import { encodeHead, encodeText, type Fields, Kind, type Unit } from './unit';
import { type Codec, encodeValue, isMessagePack, withContent } from './value';

/** Sends units. Everything it has throws like `Session.send`. */
export class Outgoing {
  readonly #raw: Session;
  /** Undefined until the page has chosen, or the server has sent MessagePack. */
  #codec: Codec | undefined;
  /** Charge of everything sent in the interactive lane so far. */
  #charged = 0;

  constructor(raw: Session, codec: Codec | undefined) {
    this.#raw = raw;
    this.#codec = codec;
  }

  /** Sends a value. Also throws for a value that cannot be encoded. */
  value(kind: Kind, fields: Fields, value: unknown): void {
    const head = encodeHead(kind, fields);
    this.#send(value === undefined ? new Uint8Array(head) : encodeValue(head, value, this.#codec ?? 'json'));
  }

  /** Goes over to the format of the server's values, unless the page has chosen one. */
  adopt({ kind, bytes, at }: Unit): void {
    const hasValue = kind >= Kind.Message && kind !== Kind.Failure;
    if (hasValue && isMessagePack(bytes, at)) this.#codec ??= 'messagepack';
  }

  /** Sends text, cut off after `limit` bytes. */
  text(kind: Kind, fields: Fields, text: string, limit?: number): void {
    this.#send(withContent(encodeHead(kind, fields), encodeText(text, limit)));
  }

  content(kind: Kind, content: Uint8Array, lane: LaneName): void {
    this.#send(withContent([kind], content), lane);
  }

  /** Position of the last unit. `acknowledged` reaches it when the server has that unit. */
  get position(): number {
    return this.#charged;
  }

  get acknowledged(): number {
    const waiting = this.#raw.bufferedAmount('interactive');
    // A renewal begins with an empty outbox, and other limits change the charge of what waits.
    return waiting ? this.#charged - waiting : Infinity;
  }

  #send(unit: Bytes, lane?: LaneName): void {
    const raw = this.#raw;
    if (lane === 'bulk') return raw.sendBulk(unit);
    const before = raw.bufferedAmount('interactive');
    raw.send(unit);
    this.#charged += raw.bufferedAmount('interactive') - before;
  }
}
