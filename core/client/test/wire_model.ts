// An independent implementation of PROTOCOL.md's frames for the tests, in both directions and in
// the form of vectors/frames.json.

export interface ModelFrame {
  type: string;
  secret?: string;
  document?: string;
  incarnation?: number;
  attempt?: number;
  epoch?: number;
  nonce?: number;
  received?: [number, number];
  credit?: [number, number];
  heartbeat?: number;
  keep?: number;
  fragment?: number;
  message?: number;
  inflated?: number;
  window?: number;
  bulk_window?: number;
  code?: number;
  reason?: number;
  retry_after?: number;
  text?: string;
  lane?: 0 | 1;
  more?: boolean;
  compressed?: boolean;
  sequence?: number;
  payload?: string;
}

export type Side = 'client' | 'server';

const TYPES: Record<string, { byte: number; by: Side | 'both'; fields: string }> = {
  hello: { byte: 0x01, by: 'client', fields: 'secret document incarnation attempt counts' },
  confirm: { byte: 0x02, by: 'client', fields: '' },
  leave: { byte: 0x03, by: 'client', fields: '' },
  offer: { byte: 0x10, by: 'server', fields: '' },
  welcome: { byte: 0x11, by: 'server', fields: 'incarnation epoch counts heartbeat keep fragment message inflated window bulk_window' },
  end: { byte: 0x12, by: 'server', fields: 'code reason retry_after text' },
  ack: { byte: 0x20, by: 'both', fields: 'counts' },
  ping: { byte: 0x21, by: 'both', fields: 'nonce counts' },
  pong: { byte: 0x22, by: 'both', fields: 'nonce counts' },
};

const fieldsOf = (type: string): string[] => TYPES[type]!.fields.split(' ').filter(Boolean);

function encodeVarint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    const byte = Number(rest & 127n);
    if (rest < 128n) return Buffer.from([...bytes, byte]);
    bytes.push(byte | 128);
  }
}

export function encodeFrame(frame: ModelFrame): Buffer<ArrayBuffer> {
  const values = frame as unknown as Record<string, unknown>;
  const parts: Uint8Array[] = [];
  if (frame.type === 'data') {
    const byte = 0x40 + frame.lane! + (frame.more ? 2 : 0) + (frame.compressed ? 4 : 0);
    parts.push(Buffer.from([byte]), encodeVarint(frame.sequence!), Buffer.from(frame.payload!, 'hex'));
  } else {
    parts.push(Buffer.from([TYPES[frame.type]!.byte]));
    for (const field of fieldsOf(frame.type)) {
      if (field === 'counts') parts.push(...[...frame.received!, ...frame.credit!].map(encodeVarint));
      else if (field === 'text') parts.push(Buffer.from(frame.text!));
      else if (field === 'secret' || field === 'document') parts.push(Buffer.from(values[field] as string, 'hex'));
      else parts.push(encodeVarint(values[field] as number));
    }
  }
  return Buffer.concat(parts);
}

export function decodeFrame(bytes: Uint8Array, sentBy: Side): ModelFrame {
  const all = Buffer.from(bytes);
  let at = 0;
  const take = (count: number): Buffer => {
    if (at + count > all.length) throw new Error('Malformed');
    return all.subarray(at, (at += count));
  };
  const varint = (): number => {
    const start = at;
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = take(1)[0]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) break;
    }
    if (value >= 2n ** 53n || !encodeVarint(Number(value)).equals(all.subarray(start, at))) throw new Error('Malformed');
    return Number(value);
  };
  const byte = take(1)[0]!;
  if (byte >= 0x40 && byte <= 0x47) {
    const sequence = varint();
    if (sequence === 0) throw new Error('Malformed');
    const flags = byte - 0x40;
    const lane = (flags & 1) as 0 | 1;
    return { type: 'data', lane, more: flags % 4 >= 2, compressed: flags >= 4, sequence, payload: all.subarray(at).toString('hex') };
  }
  const type = Object.keys(TYPES).find((name) => TYPES[name]!.byte === byte);
  const frame: Record<string, unknown> = { type };
  if (!type || ![sentBy, 'both'].includes(TYPES[type]!.by)) throw new Error('Malformed');
  for (const field of fieldsOf(type)) {
    if (field === 'counts') {
      frame['received'] = [varint(), varint()];
      frame['credit'] = [varint(), varint()];
    } else if (field === 'secret' || field === 'document') {
      frame[field] = take(field === 'secret' ? 32 : 16).toString('hex');
    } else if (field === 'text') {
      const text = take(all.length - at);
      if (text.length > 512 || !Buffer.from(text.toString()).equals(text)) throw new Error('Malformed');
      frame[field] = text.toString();
    } else {
      frame[field] = varint();
    }
  }
  if (at !== all.length || frame['attempt'] === 0) throw new Error('Malformed');
  return frame as unknown as ModelFrame;
}
