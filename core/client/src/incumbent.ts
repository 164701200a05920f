import type { Environment, Port } from './environment';
import { lock, type Release } from './lock';

/** How long a living document has to answer on the channel, in milliseconds. */
const ANSWER = 100;

/**
 * Makes this document the incumbent of a session among the documents of this browser; undefined if
 * another living document is.
 *
 * The judge is the Web Lock `stillhere:<id>`; where there are none (insecure contexts) a question
 * on the BroadcastChannel of that name, which is asked only of a `contested` session; where there
 * is neither, nobody: then the server decides.
 */
export async function becomeIncumbent(id: string, contested: boolean, environment: Environment): Promise<Release | undefined> {
  const name = `stillhere:${id}`;
  try {
    const { locks } = environment.navigator;
    if (locks) return await lock(locks, name);
  } catch {
    // An opaque origin has locks that nobody may request.
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

/** Anybody of this origin can post there, anything. */
function says(data: unknown, word: 'ask' | 'alive', id: string): boolean {
  return (data as { readonly [word in 'ask' | 'alive']?: unknown } | null)?.[word] === id;
}
