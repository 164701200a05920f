// The ES module in a page that fetches its own ticket.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { startSite } from './site.mjs';
import { browserTest, openTab } from './support.mjs';

const LARGEST = 200_000;
/** The slim client, which no server serves. */
const SLIM = new URL('../../core/client/dist/slim.mjs', import.meta.url);

for (const [count, when, cuts, client] of [
  [1_000, '', 0, '/stillhere/client.mjs'],
  [1_000, ', and through plug pulls meanwhile', 5, '/stillhere/client.mjs'],
  [200, ', and through plug pulls meanwhile, with the slim client', 2, '/slim.mjs'],
]) {
  browserTest(`${count} messages of all sizes come back whole and in order on both lanes${when}`, async (stage) => {
    const demo = await stage.startDemo();
    const origin = client === '/slim.mjs' ? await startSite(stage, demo, sendSlim) : demo.url;
    const page = await openTab(await stage.openChromium(), `${origin}/assets/icon.svg`);
    const ticket = await demo.ticket('echo');

    const { wrong, bytes, milliseconds, outcomes } = await page.evaluate(echo, { client, ticket, count, largest: LARGEST, cuts });

    assert.deepEqual(wrong, []);
    assert.deepEqual(outcomes, ['opened', ...Array(cuts).fill('resumed')]);
    stage.report(`${count} messages, ${(bytes / 1e6).toFixed(1)} MB there and back${when}: ${(milliseconds / 1000).toFixed(1)} s`);
  });
}

function sendSlim({ url }, response) {
  if (url !== '/slim.mjs') return false;
  response.writeHead(200, { 'content-type': 'text/javascript' });
  response.end(readFileSync(SLIM));
  return true;
}

/**
 * Runs in the page: sends messages on random lanes, as fast as the outbox takes them, and compares
 * the echoes. Cuts the connection at regular intervals, with messages in flight in both directions.
 */
async function echo({ client, ticket, count, largest, cuts }) {
  const { connect, OutboxFull } = await import(client);
  const began = performance.now();
  const [waiting, wrong, outcomes] = [{ interactive: [], bulk: [] }, [], []];
  let [bytes, echoed] = [0, 0];
  let over;
  const allBack = new Promise((resolve) => (over = resolve));
  const session = connect(ticket, {
    onmessage(data, lane) {
      const sent = waiting[lane].shift();
      if (sent?.length !== data.length || sent.some((byte, index) => byte !== data[index])) wrong.push(`${lane} ${echoed}`);
      echoed += 1;
      if (echoed === count) over();
    },
    onstatus({ state, outcome }) {
      if (state === 'connected') outcomes.push(outcome);
    },
  });

  for (let number = 0; number < count; number += 1) {
    // Sizes from empty to the largest, with every order of magnitude equally likely.
    const message = new Uint8Array(Math.floor(largest ** Math.random()) - 1 + (number % 2));
    for (let start = 0; start < message.length; start += 65_536) crypto.getRandomValues(message.subarray(start, start + 65_536));
    const lane = Math.random() < 0.5 ? 'interactive' : 'bulk';
    for (;;) {
      try {
        if (lane === 'bulk') session.sendBulk(message);
        else session.send(message);
        break;
      } catch (error) {
        if (!(error instanceof OutboxFull)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    waiting[lane].push(message);
    bytes += message.length;
    if (number % 10 === 0) await new Promise((resolve) => setTimeout(resolve));
    if (outcomes.length <= Math.floor(((cuts + 1) * number) / count)) await pullThePlug();
  }
  await allBack;
  session.close();
  return { wrong, bytes, milliseconds: performance.now() - began, outcomes };

  async function pullThePlug() {
    const before = outcomes.length;
    if (before > 0) await fetch(`/fault/${ticket.id}/reset`, { method: 'POST' });
    while (outcomes.length === before) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
