// Pages that are reloaded, left, revisited or duplicated, or that hold several sessions: in every
// engine, each has its own session.

import assert from 'node:assert/strict';

import { assertCountersClean, stateOf, until, untilConnected, untilReady } from '../support.mjs';
import { engineTest } from './engine.mjs';

const RELOADS = process.env.STILLHERE_LONG ? 20 : 4;

engineTest('every reload restores the session, with the value and the note', async (stage, engine) => {
  const demo = await stage.startDemo();
  const tab = await engine.open(demo.url);
  await untilReady(tab);
  const { id } = await stateOf(tab);
  await tab.evaluate(() => void demo.setNote('kept – über F5 🌱'));

  for (let loads = 2; loads <= RELOADS + 1; loads += 1) {
    await tab.evaluate(() => document.getElementById('add').click());
    await until(tab, (value) => demo.value === value && demo.note !== '', loads - 1);
    await tab.reload();
    await untilReady(tab);
    const restored = await stateOf(tab);
    const expected = { id, outcomes: ['restored'], state: 'connected', value: loads - 1, note: 'kept – über F5 🌱', documents: loads, cuts: 0 };
    assert.deepEqual(restored, expected);
  }

  assert.deepEqual(await tab.evaluate(() => ['value', 'note'].map((id) => document.getElementById(id).value)), [String(RELOADS), 'kept – über F5 🌱']);
  await assertCountersClean(tab);
});

engineTest('a step back and a step forward each find the session of their page', async (stage, engine) => {
  const demo = await stage.startDemo();
  const tab = await engine.open(demo.url);
  await untilReady(tab);
  await tab.evaluate(() => document.getElementById('add').click());
  await until(tab, () => demo.value === 1);
  const { id } = await stateOf(tab);

  await tab.evaluate(() => document.querySelector('a[href="/other"]').click());
  const other = await arrive(tab, '/other');
  assert.notEqual(other.id, id);
  assert.deepEqual(other.outcomes, ['opened']);

  for (let returns = 1; returns <= 2; returns += 1) {
    await step(tab, 'back');
    await untilReady(tab);
    const first = await arrive(tab, '/');
    // A page from the back/forward cache is the same document.
    const documents = engine.keepsPages ? 1 : returns + 1;
    assert.deepEqual({ ...first, outcomes: first.outcomes.at(-1) }, { ...first, id, outcomes: engine.keepsPages ? 'resumed' : 'restored', value: 1, documents });
    await assertCountersClean(tab);

    await step(tab, 'forward');
    // Its server did not choose restore, so a newly loaded page has a new session.
    const { id: again, outcomes } = await arrive(tab, '/other');
    assert.deepEqual([again === other.id, outcomes], engine.keepsPages ? [true, ['opened', ...Array(returns).fill('resumed')]] : [false, ['opened']]);
  }
});

const step = (tab, where) => tab.evaluate((where) => void setTimeout(() => history[where]()), where);

/** Waits until the page is loaded and connected. */
async function arrive(tab, path) {
  await until(tab, (path) => location.pathname === path, path);
  await untilConnected(tab);
  return stateOf(tab);
}

engineTest('a copy of a tab gets a session of its own and leaves the first untouched', async (stage, engine) => {
  const demo = await stage.startDemo();
  const first = await engine.open(demo.url);
  await untilReady(first);
  // From here on, it uses a stored ticket.
  await first.reload();
  await untilReady(first);
  const before = await stateOf(first);

  const copy = await (engine.duplicates ? engine.duplicate(first) : copyByHand(engine, first));
  await untilReady(copy);
  assert.equal(await copy.evaluate(() => performance.getEntriesByType('navigation')[0].type), engine.duplicates ? 'back_forward' : 'reload');
  const { id, outcomes, documents } = await stateOf(copy);
  assert.notEqual(id, before.id);
  assert.deepEqual({ outcomes, documents }, { outcomes: ['opened'], documents: 1 });
  await assertCountersClean(copy);
  await first.bringToFront();
  await assertCountersClean(first);
  assert.deepEqual(await stateOf(first), before);

  // Each page finds its own session after a reload, while the other page is open.
  for (const tab of [first, copy]) {
    await tab.bringToFront();
    const { id } = await stateOf(tab);
    await tab.reload();
    await untilReady(tab);
    const restored = await stateOf(tab);
    assert.deepEqual([restored.id, restored.outcomes], [id, ['restored']]);
    await assertCountersClean(tab);
  }
});

/**
 * Imitates a tab duplicated by the menu: the tab's storage, and a page without a navigation of its
 * own.
 */
async function copyByHand(engine, tab) {
  const copy = await engine.opened(async () => {
    await tab.evaluate(() => {
      const button = document.createElement('button');
      button.id = 'copy';
      button.textContent = 'copy';
      button.onclick = () => window.open('/assets/demo.css');
      document.body.prepend(button);
    });
    await tab.click('#copy');
  });
  await until(copy, () => location.pathname === '/assets/demo.css' && document.readyState === 'complete' && sessionStorage.length > 0);
  await copy.evaluate(() => history.replaceState(null, '', '/'));
  await copy.reload();
  return copy;
}

engineTest('several sessions on one page keep apart, through cuts of either', async (stage, engine) => {
  const demo = await stage.startDemo();
  const tab = await engine.open(demo.url);
  await untilReady(tab);
  const tickets = [await demo.ticket('echo'), await demo.ticket('echo')];
  await tab.evaluate(async (tickets) => {
    const { connect } = await import('/stillhere/client.mjs');
    window.echoes = tickets.map((ticket) => {
      const echo = { session: connect(ticket), outcomes: [], sent: 0, back: [] };
      echo.session.onstatus = ({ state, outcome }) => void (state === 'connected' && echo.outcomes.push(outcome));
      echo.session.onmessage = (data) => void echo.back.push(new TextDecoder().decode(data));
      return echo;
    });
  }, tickets);
  await until(tab, () => echoes.every(({ outcomes }) => outcomes.length === 1));

  for (let round = 1; round <= 4; round += 1) {
    await tab.evaluate(() => echoes.forEach(({ session }, at) => {
      for (let number = 0; number < 100; number += 1) session.send(new TextEncoder().encode(`${at} ${echoes[at].sent++}`));
    }));
    const cut = round % 2;
    assert.equal(await demo.fault(tickets[cut].id, 'reset'), 204);
    await until(tab, ({ cut, round }) => echoes[cut].outcomes.length > round / 2 && echoes.every(({ back, sent }) => back.length === sent), { cut, round });
  }

  const told = await tab.evaluate(() => echoes.map(({ session, outcomes, back }, at) => ({
    id: session.id,
    outcomes,
    isRight: back.every((text, number) => text === `${at} ${number}`),
  })));
  assert.deepEqual(told, [
    { id: tickets[0].id, outcomes: ['opened', 'resumed', 'resumed'], isRight: true },
    { id: tickets[1].id, outcomes: ['opened', 'resumed', 'resumed'], isRight: true },
  ]);
  assert.deepEqual((await stateOf(tab)).outcomes, ['opened'], "the page's own goes on");
  await assertCountersClean(tab);
});

engineTest('after a reload each of several sessions on one page is restored as itself', async (stage, engine) => {
  const demo = await stage.startDemo();
  const tab = await engine.open(`${demo.url}/assets/icon.svg`);
  const opened = await connectTwo(tab, demo);
  assert.deepEqual(opened.map(({ outcome }) => outcome), ['opened', 'opened']);
  for (let reload = 1; reload <= 2; reload += 1) {
    await tab.reload();
    const restored = await connectTwo(tab, demo);
    assert.deepEqual(restored, opened.map(({ id }) => ({ id, outcome: 'restored' })));
  }
});

/**
 * Connects the page to two sessions that survive a reload, with tickets that it requested. Returns
 * their outcomes.
 */
async function connectTwo(tab, demo) {
  const tickets = [await demo.ticket('echo'), await demo.ticket('echo')].map((ticket) => ({ ...ticket, restore: 'echo' }));
  await tab.evaluate(async (tickets) => {
    const { connect } = await import('/stillhere/client.mjs');
    window.sessions = tickets.map((ticket) => connect(ticket));
  }, tickets);
  await until(tab, () => sessions.every(({ status }) => status.state === 'connected'));
  return tab.evaluate(() => sessions.map(({ id, status: { outcome } }) => ({ id, outcome })));
}
