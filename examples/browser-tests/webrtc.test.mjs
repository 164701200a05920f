// The demo over a WebRTC data channel, a kind from outside the library: the page and its
// application must see no difference.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, openDemo, stateOf, until, untilOver } from './support.mjs';

const CUTS = 10;
/** Without a network, Chromium has only loopback addresses to offer, and hides them by default. */
const LOOPBACK = ['--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns'];

/**
 * Opens the demo's page; returns it with the URLs of all WebSockets it opens. Its
 * RTCPeerConnections are in `window.peers`.
 */
async function openOverDataChannel(stage) {
  const demo = await stage.startWebrtc();
  const context = await stage.openChromium({ args: LOOPBACK });
  await context.addInitScript(() => {
    window.peers = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...options) {
        super(...options);
        window.peers.push(this);
      }
    };
  });
  const webSockets = [];
  context.pages()[0].on('websocket', (socket) => webSockets.push(socket.url()));
  return { demo, context, page: await openDemo(context, demo.url), webSockets };
}

const untilResumed = (page, cuts) => until(page, (cuts) => demo.cuts === cuts && demo.status.state === 'connected', cuts);

/**
 * Returns the kind of connection, what the page shows of it, and the number of open data channels.
 */
const carriers = (page) =>
  page.evaluate(() => ({
    kind: demo.session.connection,
    told: document.getElementById('carrier').textContent,
    channels: peers.filter((peer) => peer.connectionState === 'connected').length,
  }));

browserTest('a data channel carries the session through cuts of both ends and a silence', async (stage) => {
  const { page, webSockets } = await openOverDataChannel(stage);

  for (let cuts = 1; cuts <= CUTS; cuts += 1) {
    const received = await page.evaluate(() => demo.counts.down.received);
    await until(page, (received) => demo.counts.down.received >= received, received + (cuts % 5) * 20);
    if (cuts % 2 === 0) await page.click('[data-fault=reset]');
    else await page.evaluate(() => peers.at(-1).close());
    await untilResumed(page, cuts);
  }
  await assertCountersClean(page);

  await page.click('[data-fault=silence]');
  const began = performance.now();
  await untilResumed(page, CUTS + 1);
  stage.report(`${CUTS} cuts; connected again ${((performance.now() - began) / 1000).toFixed(1)} s after a silence began`);

  await assertCountersClean(page);
  assert.deepEqual((await stateOf(page)).outcomes, ['opened', ...Array(CUTS + 1).fill('resumed')]);
  assert.deepEqual(await carriers(page), { kind: 'webrtc', told: 'a WebRTC data channel', channels: 1 });
  assert.deepEqual(webSockets, []);
});

browserTest('where no data channel can be had any more, the session goes on over a WebSocket', async (stage) => {
  const { context, page, webSockets } = await openOverDataChannel(stage);
  const refused = [];
  await context.route('**/rtc/*', (route) => {
    refused.push(route.request().url());
    return route.fulfill({ status: 503 });
  });

  await page.click('[data-fault=reset]');
  await untilResumed(page, 1);

  await assertCountersClean(page);
  assert.deepEqual((await stateOf(page)).outcomes, ['opened', 'resumed']);
  assert.deepEqual(await carriers(page), { kind: 'websocket', told: 'a WebSocket', channels: 0 });
  assert.equal(webSockets.length, 1);
  assert.equal(refused.length, 2);
});

browserTest('messages of many frames cross a data channel each way', async (stage) => {
  const { page } = await openOverDataChannel(stage);
  for (const direction of ['upload', 'download']) {
    const { ok, bytes } = await page.evaluate((direction) => demo[direction](2_000_000), direction);
    assert.deepEqual({ ok, bytes }, { ok: true, bytes: 2_000_000 }, direction);
  }
  await assertCountersClean(page);
  assert.equal((await carriers(page)).kind, 'webrtc');
});

browserTest('over a data channel a page is told why its session has ended', async (stage) => {
  const { page, webSockets } = await openOverDataChannel(stage);
  await page.click('[data-fault=drain]');
  await untilOver(page);
  const { state, reason } = await page.evaluate(() => demo.status);
  assert.deepEqual({ state, reason }, { state: 'ended', reason: 'Draining' });
  assert.deepEqual(webSockets, []);
});

browserTest('over a data channel a page is told that its server has another life', async (stage) => {
  const { demo, page, webSockets } = await openOverDataChannel(stage);
  await demo.kill();
  await stage.startWebrtc(demo.port);
  await untilOver(page);
  const { state, reason } = await page.evaluate(() => demo.status);
  assert.deepEqual({ state, reason }, { state: 'refused', reason: 'Unknown' });
  assert.deepEqual(webSockets, []);
});
