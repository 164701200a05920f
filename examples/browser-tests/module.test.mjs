// The ES module in a page that fetches its own ticket.

import assert from 'node:assert/strict';

import { browserTest, openTab } from './support.mjs';

const MESSAGES = 1_000;
const LARGEST = 200_000;

for (const [when, cuts] of [
  ['', 0],
  [', and through plug pulls meanwhile', 5],
]) {
  browserTest(`a thousand messages of all sizes come back whole and in order on both lanes${when}`, async (stage) => {
    const demo = await stage.startDemo();
    const page = await openTab(await stage.openChromium(), `${demo.url}/assets/icon.svg`);
    const ticket = await demo.ticket('echo');

    const { wrong, bytes, milliseconds, outcomes } = await page.evaluate(echo, { ticket, count: MESSAGES, largest: LARGEST, cuts });

    assert.deepEqual(wrong, []);
    assert.deepEqual(outcomes, ['opened', ...Array(cuts).fill('resumed')]);
    stage.report(`${MESSAGES} messages, ${(bytes / 1e6).toFixed(1)} MB there and back${when}: ${(milliseconds / 1000).toFixed(1)} s`);
  });
}

/**
 * Runs in the page: sends messages on random lanes, as fast as the outbox takes them, and compares
 * the echoes. Cuts the connection at regular intervals, with messages in flight in both directions.
 */
async function echo({ ticket, count, largest, cuts }) {
  const { connect, OutboxFull } = await import('/stillhere/client.mjs');
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
