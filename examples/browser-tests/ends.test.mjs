// Every way a session can end, and what the page shows.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, openDemo, openTab, reload, stateOf, until, untilOver, untilReady } from './support.mjs';

browserTest('a drained session says so, and its button opens a new one that works', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  const { id } = await stateOf(page);

  await page.click('[data-fault=drain]');
  await untilOver(page);
  const { state, reason } = await page.evaluate(() => demo.status);
  assert.deepEqual({ state, reason }, { state: 'ended', reason: 'Draining' });
  assert.match(await page.innerText('#over'), /drained this session/);
  assert.ok(await page.isDisabled('[data-fault=reset]'));

  await page.click('#over-reload');
  await until(page, (id) => window.demo?.readyAt !== undefined && demo.session.id !== id, id);
  const { outcomes, value } = await stateOf(page);
  assert.deepEqual({ outcomes, value }, { outcomes: ['opened'], value: 0 });
  assert.ok(await page.isHidden('#over'));
  await assertCountersClean(page);
});

browserTest('after a crash and a restart of the server the page says that its session is gone, and how to go on', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  const { id } = await stateOf(page);

  await demo.kill();
  await until(page, () => demo.status.state === 'reconnecting' && demo.status.retryAt !== null);
  assert.match(await page.innerText('#status'), /Reconnecting/);
  const successor = await stage.startDemo(demo.port);
  await untilOver(page);

  const { state, code, reason } = await page.evaluate(() => demo.status);
  assert.deepEqual({ state, code, reason }, { state: 'refused', code: 4100, reason: 'Unknown' });
  assert.match(await page.innerText('#over'), /session is gone[^]*Open a new session/);
  await page.click('#over-reload');
  await until(page, (id) => window.demo?.readyAt !== undefined && demo.session.id !== id, id);
  // The outcomes would not show this, because the fallback may have reached the server first, and
  // the move to a WebSocket adds another outcome.
  assert.equal((await stateOf(page)).documents, 1);
  assert.equal(successor.url, demo.url);
  await assertCountersClean(page);
});

browserTest('a page that is reloaded after its session was lost gets a new one', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  const { id } = await stateOf(page);

  await demo.kill();
  await stage.startDemo(demo.port);
  await reload(page);

  const { id: fresh, documents } = await stateOf(page);
  assert.notEqual(fresh, id);
  assert.equal(documents, 1);
  await assertCountersClean(page);
});

browserTest('an unknown session, a wrong secret and a ticket that is none are each refused', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openTab(await stage.openChromium(), `${demo.url}/assets/icon.svg`);
  const ticket = await demo.ticket('echo');
  const other = await demo.ticket('echo');
  const unknown = 'A'.repeat(22);

  for (const [presented, told] of [
    [{ ...ticket, url: `/stillhere/${unknown}`, id: unknown }, { state: 'refused', code: 4100, reason: 'Unknown' }],
    [{ ...ticket, secret: other.secret }, { state: 'refused', code: 4101, reason: 'WrongSecret' }],
  ]) {
    const status = await page.evaluate(async (ticket) => {
      const { connect } = await import('/stillhere/client.mjs');
      return new Promise((resolve) => connect(ticket, { onstatus: (status) => status.state === 'refused' && resolve(status) }));
    }, presented);
    const { state, code, reason } = status;
    assert.deepEqual({ state, code, reason }, told);
  }

  const error = await page.evaluate(async () => {
    const { connect } = await import('/stillhere/client.mjs');
    try {
      return connect({});
    } catch (error) {
      return error.message;
    }
  });
  assert.match(error, /takes the ticket object/);
});

browserTest('a server that stops tells its pages, refuses new ones with a hint, and exits; those then find its successor by themselves', async (stage) => {
  const demo = await stage.startDemo(0, '--heartbeat', '600', '--drain', '600');
  const context = await stage.openChromium();
  const page = await openDemo(context, demo.url);
  // A page that cannot be reached keeps the server draining.
  const unreachable = await openDemo(context, demo.url);
  const { id } = await stateOf(unreachable);
  await demo.fault(id, 'silence');

  const began = Date.now();
  demo.terminate();
  await untilOver(page);
  const ended = await page.evaluate(() => demo.status);
  assert.deepEqual({ state: ended.state, reason: ended.reason }, { state: 'ended', reason: 'Draining' });
  assert.ok(ended.retryAt > began, 'there is a hint when to come back');
  assert.match(await page.innerText('#over'), /drained this session[^]*asks this page to wait \d+ s/);

  const late = await openTab(context, demo.url);
  await until(late, () => window.demo?.status.reason === 'Draining' && demo.status.retryAt !== null);
  const refused = await late.evaluate(() => demo.status);
  assert.deepEqual({ state: refused.state, code: refused.code }, { state: 'connecting', code: 4200 });
  assert.ok(refused.retryAt > began, 'there is a hint when to come back');
  assert.match(await late.innerText('#status'), /Connecting[^]*Draining: next attempt in/);
  const { refused: ticket } = await demo.ticket('echo');
  assert.equal(ticket.code, 4200);

  // Now the page connects again and learns of the drain.
  await demo.fault(id, 'reset');
  await untilOver(unreachable);
  assert.equal(await demo.over, 0);

  await stage.startDemo(demo.port);
  await untilReady(late);
  assert.deepEqual((await stateOf(late)).outcomes, ['opened']);
  await assertCountersClean(late);
});
