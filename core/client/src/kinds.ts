import type { Environment } from './environment';
import { sharedIn } from './shared';
import { PROTOCOL } from './ticket';
import type { Bytes } from './wire';

/** Carries frames in order and, while it is open, without loss. A WebSocket is one. */
export interface Connection {
  /**
   * Number of bytes waiting to be sent. If absent, bulk messages do not yield to interactive ones.
   */
  readonly bufferedAmount?: number;
  send(frame: Bytes): void;
  close(code: number): void;
}

/**
 * Callbacks of a connection; none is called after `onclose`. An exception from `send` or from the
 * opening function counts as a close, and so does an opening function that returns nothing. An
 * exception from `close` goes to the console.
 */
export interface ConnectionHandlers {
  /**
   * Address of the session, with the scheme `http:` or `https:`. The last segment is the session's
   * id.
   */
  readonly url: string;
  onopen(): void;
  onmessage(data: ArrayBuffer | Bytes): void;
  onclose(code?: number): void;
}

export type OpenConnection = (handlers: ConnectionHandlers) => Connection;

/** Name of the default kind. */
export const WEB_SOCKET = 'websocket';

const { kinds, awaited } = sharedIn(globalThis);

/**
 * Registers a kind of connection, for pages whose server chose it. You may call it after `connect`.
 */
export function registerConnection(name: string, open: OpenConnection): void {
  kinds.set(name, open);
  for (const run of awaited.get(name) ?? []) run();
  awaited.delete(name);
}

/** Calls `run` now, or when the kind is registered. Returns true if it called `run` now. */
export function whenRegistered(name: string, run: (open: OpenConnection) => void): boolean {
  const open = kinds.get(name);
  if (open) run(open);
  else awaited.set(name, [...(awaited.get(name) ?? []), () => run(kinds.get(name)!)]);
  return !!open;
}

/** Opens a connection of the default kind. */
export function openWebSocket({ WebSocket }: Environment, { url, onopen, onmessage, onclose }: ConnectionHandlers): Connection {
  const socket = new WebSocket(url.replace(/^http/, 'ws'), PROTOCOL);
  socket.binaryType = 'arraybuffer';
  socket.onopen = onopen;
  // A text message becomes an empty frame, which is malformed too.
  socket.onmessage = ({ data }) => onmessage(typeof data === 'string' ? new ArrayBuffer(0) : (data as ArrayBuffer));
  socket.onclose = ({ code }) => onclose(code);
  // Chromium fires only this event for a connection that the Content-Security-Policy forbids.
  socket.onerror = () => onclose();
  return socket;
}
