// Messages reach the application complete, in order and ready for any typed array, over every
// route.

import assert from 'node:assert/strict';

import { engineTest } from './engine.mjs';

/**
 * Sizes: empty, one frame, more than one fragment of 64 KiB, and lengths that fit no typed array.
 */
const SIZES = [0, 1, 13, 1_000, 65_536, 200_001];

engineTest('a message is alone in its buffer, at the start of it, on both lanes and over each route', async (stage, engine) => {
  const demo = await stage.startDemo();
  for (const route of ['websocket', 'streamed', 'polled']) {
    const tab = await engine.open(`${demo.url}/assets/icon.svg`);
    const { connection, wrong } = await tab.evaluate(echo, { ticket: await demo.ticket('echo'), sizes: SIZES, route });
    assert.deepEqual(wrong, [], route);
    assert.equal(connection === 'websocket', route === 'websocket', `${route} is ${connection}`);
  }
});

/** Runs in the page: sends messages and returns what is wrong with their echoes. */
async function echo({ ticket, sizes, route }) {
  if (route !== 'websocket') {
    window.WebSocket = class {
      constructor() {
        throw new Error('blocked');
      }
    };
  }
  // Without locks, tabs cannot count streams, so none streams.
  if (route === 'polled') Object.defineProperty(navigator, 'locks', { value: undefined });
  const { connect } = await import('/stillhere/client.mjs');
  const views = [Int8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array, DataView];
  const sent = sizes.map((size) => Uint8Array.from({ length: size }, (_, index) => index * index + size));
  const waiting = { interactive: [...sent], bulk: [...sent] };
  const wrong = [];
  const session = connect(ticket);
  const allBack = new Promise((resolve) => {
    session.onmessage = (data, lane) => {
      const expected = waiting[lane].shift();
      const what = `${lane} ${expected?.length}`;
      if (data.length !== expected?.length || data.some((byte, index) => byte !== expected[index])) wrong.push(what);
      if (data.byteOffset !== 0 || data.buffer.byteLength !== data.length) wrong.push(`${what} at ${data.byteOffset}`);
      for (const View of views) {
        try {
          new View(data.buffer, data.byteOffset, Math.floor(data.byteLength / (View.BYTES_PER_ELEMENT ?? 1)));
        } catch (error) {
          wrong.push(`${what} ${View.name}: ${error}`);
        }
      }
      if (waiting.interactive.length + waiting.bulk.length === 0) resolve();
    };
  });
  for (const message of sent) {
    session.send(message);
    session.sendBulk(message);
  }
  await allBack;
  const { connection } = session;
  session.close();
  return { connection, wrong };
}
