// Connections that are cut, silenced, stalled, blocked or down for long: in every engine, the
// session continues and nothing is lost.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { Network } from '../network.mjs';
import { assertCountersClean, stateOf, until, untilReady } from '../support.mjs';
import { engineTest } from './engine.mjs';

const isLong = process.env.STILLHERE_LONG !== undefined;
const CUTS = isLong ? 20 : 5;
/**
 * Milliseconds. A minute exceeds every wait of the client, so a longer outage would show nothing
 * new.
 */
const OUTAGE = isLong ? 60_000 : 4_000;

const untilResumed = (tab, times) =>
  until(tab, (times) => demo.outcomes.filter((outcome) => outcome === 'resumed').length >= times && demo.status.state === 'connected', times);

engineTest('plug pulls under the full streams are resumed from', async (stage, engine) => {
  const demo = await stage.startDemo();
  const tab = await engine.open(demo.url);
  await untilReady(tab);
  const { id } = await stateOf(tab);

  for (let cut = 1; cut <= CUTS; cut += 1) {
    // A page that tried HTTP meanwhile moves back to a WebSocket, which is a resume of its own.
    await until(tab, () => stillhere.session.connection === 'websocket' && demo.status.state === 'connected');
    const before = (await stateOf(tab)).outcomes.length;
    await tab.evaluate(() => demo.fault('reset'));
    await untilResumed(tab, before);
    await assertCountersClean(tab);
  }

  const after = await stateOf(tab);
  assert.deepEqual([after.id, after.outcomes[0], ...new Set(after.outcomes.slice(1))], [id, 'opened', 'resumed']);
});

engineTest('window.stop() costs at most the connection', async (stage, engine) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  network.isBlocked = false;
  const origin = await stage.serve(network.server);
  const tab = await engine.open(origin);
  await untilReady(tab);
  const { id } = await stateOf(tab);

  // Cuts a WebSocket, an opening WebSocket, and HTTP requests.
  await stopAndGoOn(tab);
  network.cut();
  await tab.evaluate(() => window.stop());
  await stopAndGoOn(tab);
  network.isBlocked = true;
  network.cut();
  await until(tab, () => demo.status.state === 'connected' && stillhere.session.connection !== 'websocket');
  await stopAndGoOn(tab);

  const after = await stateOf(tab);
  assert.deepEqual([after.id, [...new Set(after.outcomes)]], [id, ['opened', 'resumed']]);
});

async function stopAndGoOn(tab) {
  await tab.evaluate(() => window.stop());
  await assertCountersClean(tab);
}

engineTest('a page goes on over HTTP requests where WebSockets are blocked, and back', async (stage, engine) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  const tab = await engine.open(await stage.serve(network.server));
  await untilReady(tab);
  const { id } = await stateOf(tab);
  assert.notEqual(await tab.evaluate(() => stillhere.session.connection), 'websocket');
  await assertCountersClean(tab);
  network.cut();
  await untilResumed(tab, 1);
  await assertCountersClean(tab);

  await tab.reload();
  await untilReady(tab);
  const restored = await stateOf(tab);
  assert.deepEqual([restored.id, restored.outcomes[0]], [id, 'restored']);
  await assertCountersClean(tab);

  network.isBlocked = false;
  await tab.evaluate(() => void dispatchEvent(new Event('online')));
  await until(tab, () => stillhere.session.connection === 'websocket' && demo.status.state === 'connected');
  await assertCountersClean(tab);
  assert.equal((await stateOf(tab)).id, id);
});

engineTest(`two outages of ${OUTAGE / 1000} s are resumed from`, async (stage, engine) => {
  const demo = await stage.startDemo();
  const network = new Network(demo.url);
  network.isBlocked = false;
  const tab = await engine.open(await stage.serve(network.server));
  await untilReady(tab);
  const { id } = await stateOf(tab);

  const taken = [];
  for (let outage = 1; outage <= 2; outage += 1) {
    // A page that tried HTTP meanwhile moves back to a WebSocket, which counts as another resume.
    await until(tab, () => stillhere.session.connection === 'websocket' && demo.status.state === 'connected');
    const before = (await stateOf(tab)).outcomes.length;
    network.isDown = true;
    network.cut();
    await until(tab, () => demo.status.state === 'reconnecting');
    await sleep(OUTAGE);
    network.isDown = false;
    const began = performance.now();
    await untilResumed(tab, before);
    taken.push(performance.now() - began);
    await assertCountersClean(tab);
  }

  const after = await stateOf(tab);
  assert.deepEqual([after.id, after.outcomes[0], ...new Set(after.outcomes.slice(1))], [id, 'opened', 'resumed']);
  stage.report(`connected again ${taken.map((milliseconds) => (milliseconds / 1000).toFixed(1)).join(' and ')} s after the outages`);
}, { timeout: 180_000 + 2 * OUTAGE });
