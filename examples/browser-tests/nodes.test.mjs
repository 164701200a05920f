// Several nodes, any of which takes any connection: what a person sees whose connection is cut, and
// whose node is killed.

import assert from 'node:assert/strict';

import { startNetwork } from './network.mjs';
import { startNats, startRandomNginx } from './nodes.mjs';
import { browserTest, openTab, repetitions, until } from './support.mjs';

const KILLS = repetitions(10);
const CUTS = process.env.STILLHERE_LONG ? 200 : 30;
/**
 * Milliseconds from a node's death until its session goes on elsewhere: 2 s, which
 * cluster-nats/tests/processes checks, and the time of a busy browser.
 */
const TAKEOVER = 4_000;

const shown = (page, id) => page.evaluate((id) => document.getElementById(id).textContent, id);
const numberOf = async (page, id) => Number((await shown(page, id)).replaceAll(',', ''));

/** Waits until so many more numbers have come in both directions. */
async function untilMore(page, count) {
  const before = [await numberOf(page, 'from-server'), await numberOf(page, 'from-page')];
  await until(page, ([before, count]) => ['from-server', 'from-page'].every((id, at) => Number(document.getElementById(id).textContent.replaceAll(',', '')) >= before[at] + count), [before, count]);
}

browserTest('the demo of three nodes goes on in another node whenever the one that has its session is killed', async (stage) => {
  const program = await stage.startExample('restarts', '--nodes', '3');
  const page = await openTab(await stage.openChromium(), program.url);
  const took = [];

  for (let kill = 1; kill <= KILLS; kill += 1) {
    await untilMore(page, 3);
    const owner = await shown(page, 'owner');
    assert.match(owner, /^node [123]$/);
    await page.click('#click');
    await page.click('#kill');
    const began = performance.now();
    await page.click('#click');
    await until(page, (owner) => document.getElementById('owner').textContent !== owner, owner);
    took.push(Math.round(performance.now() - began));
  }
  await until(page, (clicks) => document.getElementById('clicks').textContent === String(clicks), 2 * KILLS);
  assert.equal(await numberOf(page, 'errors'), 0);
  assert.match(await shown(page, 'reached'), /^node [123]$/);
  assert.ok(program.complaints.match(/node [123] was killed/g)?.length >= KILLS - 1, program.complaints);
  stage.report(`${KILLS} nodes killed: the session went on elsewhere after ${took.join(', ')} ms`);
});

browserTest('behind nginx that gives each connection to any of three nodes, cuts and a kill lose and double nothing', async (stage) => {
  const nats = await startNats(stage);
  const nodes = await Promise.all(['1', '2', '3'].map((number) => stage.startExample('restarts', '--node', number, '--nats', nats)));
  const [network, url] = await startNetwork(stage, { url: await startRandomNginx(stage, nodes.map(({ port }) => port)) });
  const context = await stage.openChromium();

  for (const connection of ['websocket', 'streamed']) {
    network.isBlocked = connection !== 'websocket';
    const page = await openTab(context, url);
    await untilMore(page, 1);
    assert.equal(await page.evaluate(() => stillhere.session.connection), connection);
    await page.evaluate(() => {
      const { session } = stillhere;
      const { onstatus } = session;
      window.seen = { resumed: 0, state: session.status.state };
      session.onstatus = (status) => {
        onstatus(status);
        if (status.state === 'connected' && seen.state !== 'connected') seen.resumed += 1;
        seen.state = status.state;
      };
    });
    const reached = new Set();
    const began = performance.now();
    for (let cut = 1; cut <= CUTS; cut += 1) {
      await untilMore(page, 1 + (cut % 3));
      reached.add(await shown(page, 'reached'));
      // After so many cuts of its stream the page polls, and a cut may fall between two polls.
      const least = connection === 'websocket' || cut <= 3 ? (await page.evaluate(() => seen.resumed)) + 1 : 0;
      network.cut();
      await until(page, (least) => {
        if (seen.state === 'reconnecting') stillhere.session.retry();
        return seen.resumed >= least && seen.state === 'connected';
      }, least);
    }
    await untilMore(page, 5);
    assert.equal(await numberOf(page, 'errors'), 0);
    assert.equal(await page.evaluate(() => stillhere.session.status.outcome), 'resumed');
    const resumed = await page.evaluate(() => seen.resumed);
    assert.ok(reached.size === 3 || connection !== 'websocket', [...reached].join());
    stage.report(`${CUTS} cuts from ${connection}, ${resumed} resumes, in ${Math.round(performance.now() - began)} ms: nothing lost`);
  }

  const [page, other] = context.pages();
  const owner = await shown(page, 'owner');
  await nodes[Number(owner.at(-1)) - 1].kill();
  const killed = performance.now();
  await until(page, (owner) => document.getElementById('owner').textContent !== owner, owner);
  const took = performance.now() - killed;
  assert.ok(took < TAKEOVER, `${took} ms`);
  for (const each of [page, other]) {
    await untilMore(each, 5);
    assert.equal(await numberOf(each, 'errors'), 0);
  }
  stage.report(`after a kill the session went on elsewhere within ${Math.round(took)} ms`);
});
