import type { Environment } from './environment';
import { type Connection, openWebSocket, WEB_SOCKET } from './kinds';
import { isServers, post } from './posts';
import { HELD_BACK } from './route';

const LEFT = 1000;
/** The close code for a connection that was lost without a close. */
const LOST = 1006;

/**
 * Returns true if the server answers over a kind of connection. Does not ask for a session.
 */
export async function isHeardOver(kind: string, url: string, environment: Environment, signal: AbortSignal): Promise<boolean> {
  try {
    return await (kind === WEB_SOCKET ? closesWebSocket : beginsStream)(url, environment, signal);
  } catch {
    return false;
  }
}

/** Opens a WebSocket and closes it. Only a server that heard the close answers it. */
function closesWebSocket(url: string, environment: Environment, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const close = (): void => socket.close(LEFT);
    const onclose = (code = LOST): void => resolve(code !== LOST);
    const socket: Connection = openWebSocket(environment, { url, onopen: close, onmessage() {}, onclose });
    signal.addEventListener('abort', () => {
      close();
      onclose();
    });
  });
}

/** Checks that an answer begins to arrive before it has ended. */
async function beginsStream(url: string, environment: Environment, signal: AbortSignal): Promise<boolean> {
  const body = new Uint8Array(21);
  body[0] = 1;
  environment.crypto.getRandomValues(body.subarray(1, 17));
  const response = await post(environment, url, body, { signal });
  if (!isServers(response)) return false;
  const reader = response.body!.getReader();
  if ((await reader.read()).done) return false;
  const end = reader.read().then(({ done }) => !done);
  return Promise.race([end, new Promise<boolean>((resolve) => environment.setTimeout(() => resolve(true), HELD_BACK))]);
}
