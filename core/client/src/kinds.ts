import type { Environment } from './environment';
import { sharedIn } from './shared';
import { PROTOCOL } from './ticket';
import type { Bytes } from './wire';

/** What carries frames for a while: ordered and reliable as long as it lives. A WebSocket is one. */
export interface Connection {
  /** Bytes that wait to be sent; without it, bulk is not held back for what is quick. */
  readonly bufferedAmount?: number;
  send(frame: Bytes): void;
  close(code: number): void;
}

/** What a connection tells. After `onclose` nothing more; what is thrown at `send` or while opening counts as a close, as does opening that returns nothing. What `close` throws is told in the console. */
export interface ConnectionHandlers {
  /** The session's address, its scheme `http:` or `https:`; the last segment is the session's id. */
  readonly url: string;
  onopen(): void;
  onmessage(data: ArrayBuffer | Bytes): void;
  onclose(code?: number): void;
}

export type OpenConnection = (handlers: ConnectionHandlers) => Connection;

const { kinds, awaited } = sharedIn(globalThis);

/** Makes connections of this kind, for pages whose server chose it. It may come after `connect`. */
export function registerConnection(name: string, open: OpenConnection): void {
  kinds.set(name, open);
  for (const run of awaited.get(name) ?? []) run();
  awaited.delete(name);
}

/** Runs at once, or when the kind is registered. Whether it was at once. */
export function whenRegistered(name: string, run: (open: OpenConnection) => void): boolean {
  const open = kinds.get(name);
  if (open) run(open);
  else awaited.set(name, [...(awaited.get(name) ?? []), () => run(kinds.get(name)!)]);
  return !!open;
}

/** The default kind. */
export function openWebSocket({ WebSocket }: Environment, { url, onopen, onmessage, onclose }: ConnectionHandlers): Connection {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), PROTOCOL);
  socket.binaryType = 'arraybuffer';
  socket.onopen = onopen;
  // A text message is malformed, and so is an empty frame.
  socket.onmessage = ({ data }) => onmessage(typeof data === 'string' ? new ArrayBuffer(0) : (data as ArrayBuffer));
  socket.onclose = ({ code }) => onclose(code);
  // What the Content-Security-Policy forbids, Chromium tells by this event alone.
  socket.onerror = () => onclose();
  return socket;
}
