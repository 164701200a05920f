// The client's machine as a child process, for a simulation that plays the server and the network.
//
// Requests on standard input and one answer to each on standard output are binary, little-endian
// and preceded by their length (u32).
//
// A request is u8 op, f64 now, and the fields of the op:
//
// - 0 reset: u32 length, JSON {secret, document, limits, outbox, seed}
// - 1 start
// - 2 open: u32 connection
// - 3 frame: u32 connection, u32 length, bytes
// - 4 close: u32 connection, u32 code
// - 5 timeout
// - 6 wake
// - 7 hidden: u8
// - 8 leave
// - 9 send: u8 lane, u32 length, bytes
// - 10 take, which takes and releases one message: u8 lane
// - 11 take without release: u8 lane
// - 12 release: u8 lane
// - 13 transmit: u32 connection, u8 bulk allowed, u32 most frames
//
// An answer is, in this order:
//
// - the transmitted frames: u32 count, each u32 length and bytes
// - the actions: u32 count, each u8 type (0 connect, 1 close), u32 connection, u32 code
// - the events: u32 count, each u32 length and JSON
// - the messages taken: u32 count, each u8 lane, u32 length and bytes
// - f64 next timeout (NaN for none), u8 phase, u32 buffered charge of lane 0 and of lane 1, u32
//   charge in the inboxes
// - u8 error: 0 none, 1 OutboxFull, 2 TooLarge, 3 SessionOver, 255 an exception, whose text is on
//   standard error

import { readSync, writeSync } from 'node:fs';

import { type Bytes, DocumentMachine, type Lane, type Limits, OutboxFull, type Phase, SessionOver, TooLarge } from '../src/machine';
import { generator } from './random';

const PHASES: readonly Phase[] = ['idle', 'connecting', 'hello', 'offered', 'connected', 'waiting', 'resting', 'left', 'over'];

interface Reset {
  secret: string;
  document: string;
  limits: Limits;
  outbox?: number;
  seed: number;
}

/** Exactly `length` bytes of standard input, or `undefined` at its end. */
function read(length: number): Buffer<ArrayBuffer> | undefined {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const count = retried(() => readSync(0, bytes, at, length - at, null));
    if (count === 0) return undefined;
    at += count;
  }
  return bytes;
}

function write(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += retried(() => writeSync(1, bytes, at, bytes.length - at));
}

/** A pipe that the parent made non-blocking is tried until it is ready. */
function retried(attempt: () => number): number {
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw error;
    }
  }
}

const u8 = (value: number): Buffer => Buffer.of(value);
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value > 0xffffffff ? 0xffffffff : value);
  return bytes;
};
const f64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
};

let machine: DocumentMachine;

function handle(request: Buffer<ArrayBuffer>): Uint8Array[] {
  let at = 0;
  const readU8 = (): number => request.readUInt8(at++);
  const readU32 = (): number => request.readUInt32LE((at += 4) - 4);
  const readF64 = (): number => request.readDoubleLE((at += 8) - 8);
  const readLane = (): Lane => readU8() as Lane;
  const readBytes = (): Bytes => {
    const length = readU32();
    return request.subarray(at, (at += length));
  };

  const frames: Bytes[] = [];
  const taken: Uint8Array[] = [];
  const take = (lane: Lane): void => {
    const message = machine.take(lane);
    if (message) taken.push(Buffer.concat([u8(lane), u32(message.payload.length), message.payload]));
  };

  const op = readU8();
  const now = readF64();
  let error = 0;
  try {
    switch (op) {
      case 0: {
        const { secret, document, limits, outbox, seed } = JSON.parse(Buffer.from(readBytes()).toString()) as Reset;
        const random = generator(seed);
        machine = new DocumentMachine({
          secret: Buffer.from(secret, 'hex'), document: Buffer.from(document, 'hex'), limits, random, ...(outbox === undefined ? {} : { outbox }),
        });
        break;
      }
      case 1:
        machine.start(now);
        break;
      case 2:
        machine.handleOpen(readU32(), now);
        break;
      case 3:
        machine.handleFrame(readU32(), readBytes(), now);
        break;
      case 4:
        machine.handleClose(readU32(), readU32(), now);
        break;
      case 5:
        machine.handleTimeout(now);
        break;
      case 6:
        machine.handleWake(now);
        break;
      case 7:
        machine.handleHidden(readU8() !== 0, now);
        break;
      case 8:
        machine.handleLeave(now);
        break;
      case 9:
        machine.send(readLane(), readBytes(), now);
        break;
      case 10: {
        const lane = readLane();
        take(lane);
        if (taken.length) machine.release(lane, now);
        break;
      }
      case 11:
        take(readLane());
        break;
      case 12:
        machine.release(readLane(), now);
        break;
      case 13: {
        const connection = readU32();
        const bulkAllowed = readU8() !== 0;
        const most = readU32();
        for (let frame; frames.length < most && (frame = machine.pollTransmit(connection, bulkAllowed, now)); ) frames.push(frame);
        break;
      }
      default:
        throw new Error(`unknown op ${op}`);
    }
    if (at !== request.length) throw new Error(`op ${op} has ${request.length} bytes, not ${at}`);
  } catch (thrown) {
    error = thrown instanceof OutboxFull ? 1 : thrown instanceof TooLarge ? 2 : thrown instanceof SessionOver ? 3 : 255;
    if (error === 255) console.error(thrown);
  }

  const actions: Uint8Array[] = [];
  for (let action; (action = machine.pollAction()); ) {
    const code = action.type === 'close' ? action.code : 0;
    actions.push(u8(action.type === 'close' ? 1 : 0), u32(action.connection), u32(code));
  }
  const events: Uint8Array[] = [];
  for (let event; (event = machine.pollEvent()); ) {
    const json = Buffer.from(JSON.stringify(event));
    events.push(u32(json.length), json);
  }
  return [
    u32(frames.length), ...frames.flatMap((frame) => [u32(frame.length), frame]),
    u32(actions.length / 3), ...actions,
    u32(events.length / 2), ...events,
    u32(taken.length), ...taken,
    f64(machine.pollTimeout() ?? NaN), u8(PHASES.indexOf(machine.phase)),
    u32(machine.bufferedCharge(0)), u32(machine.bufferedCharge(1)), u32(machine.inboxCharge(0) + machine.inboxCharge(1)), u8(error),
  ];
}

for (let length; (length = read(4)); ) {
  const request = read(length.readUInt32LE());
  if (!request) break;
  const answer = Buffer.concat(handle(request));
  write(Buffer.concat([u32(answer.length), answer]));
}
