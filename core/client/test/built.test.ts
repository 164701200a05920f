import * as client from '../src/index';
import type { ConnectionHandlers } from '../src/index';
import { checkBuilt, look, Trial } from './check_built';
import { FakePage } from './fake_page';
import { encodeWelcome, ticketOf } from './fake_server';

/** A session over a registered connection, which is lost. */
async function registered({ connect, registerConnection }: typeof client): Promise<unknown[]> {
  const trial = new Trial({ ...client, connect }, new FakePage());
  const sent: Uint8Array[] = [];
  let handlers!: ConnectionHandlers;
  registerConnection('pigeon', (given) => {
    handlers = given;
    return { send: (frame) => void sent.push(frame), close: (code) => void trial.seen.push(code) };
  });
  const session = trial.connect(ticketOf('mine', { connection: 'pigeon' }));
  await trial.settle();
  handlers.onopen();
  handlers.onmessage(encodeWelcome());
  trial.seen.push(handlers.url, sent[0]![0], ...look(session));
  handlers.onclose(1006);
  await trial.settle();
  trial.seen.push(...look(session));
  session.close();
  await trial.settle();
  return trial.seen;
}

await checkBuilt('stillhere.mjs', client, 13_539, [registered]);
