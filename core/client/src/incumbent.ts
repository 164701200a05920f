import type { Environment, Port } from './environment';
import { lock, type Release } from './lock';

/** Time in milliseconds for another document to answer on the channel. */
const ANSWER = 100;

/**
 * Makes this document the session's incumbent within this browser. Returns undefined if another
 * open document already is.
 *
 * The Web Lock `stillhere:<id>` decides. Where there are no locks (insecure contexts), a question
 * on the BroadcastChannel of that name does; it is asked only about a `contested` session. Where
 * there is neither, the server decides.
 */
export async function becomeIncumbent(id: string, contested: boolean, environment: Environment): Promise<Release | undefined> {
  const name = `stillhere:${id}`;
  try {
    const { locks } = environment.navigator;
    if (locks) return await lock(locks, name);
  } catch {
    // In an opaque origin, `locks` exists but rejects every request.
  }
  try {
    const channel = new environment.BroadcastChannel!(name);
    if (contested && (await isAnswered(channel, id, environment))) {
      channel.close();
      return;
    }
    channel.onmessage = ({ data }) => {
      if (says(data, 'ask', id)) channel.postMessage({ alive: id });
    };
    return () => channel.close();
  } catch {
    return () => {};
  }
}

function isAnswered(channel: Port, id: string, environment: Environment): Promise<boolean> {
  return new Promise((resolve) => {
    channel.onmessage = ({ data }) => {
      if (says(data, 'alive', id)) resolve(true);
    };
    channel.postMessage({ ask: id });
    environment.setTimeout(() => resolve(false), ANSWER);
  });
}

/**
 * Returns true if the message is `word` for this session. Any page of the origin can post any
 * value.
 */
function says(data: unknown, word: 'ask' | 'alive', id: string): boolean {
  return (data as { readonly [word in 'ask' | 'alive']?: unknown } | null)?.[word] === id;
}
