// Links and history: which pages get their session back.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, openDemo, stateOf, until, untilConnected, untilReady } from './support.mjs';

browserTest('a link to another page and a link back each open a session of their own', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  const first = await stateOf(page);

  await follow(page, '/other');
  const other = await stateOf(page);
  await follow(page, '/');
  await untilReady(page);
  const second = await stateOf(page);

  assert.deepEqual([first.outcomes, other.outcomes, second.outcomes], [['opened'], ['opened'], ['opened']]);
  assert.equal(new Set([first.id, other.id, second.id]).size, 3);
  assert.deepEqual([second.value, second.documents], [0, 1]);
  await assertCountersClean(page);
});

browserTest('a page from the back/forward cache resumes its session', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium({ ignoreDefaultArgs: ['--disable-back-forward-cache'] }), demo.url);
  await page.evaluate(() => {
    window.persisted = [];
    addEventListener('pageshow', (event) => persisted.push(event.persisted));
  });
  const { id } = await stateOf(page);

  for (let returns = 1; returns <= 3; returns += 1) {
    await follow(page, '/other');
    assert.equal(await page.evaluate(() => typeof persisted), 'undefined');
    await stepBack(page);
    await until(page, (returns) => window.persisted?.length === returns && demo.outcomes.length === returns + 1, returns);
    await until(page, async (id) => (await navigator.locks.query()).held.some(({ name }) => name === `stillhere:${id}`), id);
    await assertCountersClean(page);
  }

  const { id: resumed, outcomes, documents } = await stateOf(page);
  assert.deepEqual(await page.evaluate(() => persisted), [true, true, true]);
  assert.deepEqual({ resumed, outcomes, documents }, { resumed: id, outcomes: ['opened', 'resumed', 'resumed', 'resumed'], documents: 1 });
});

browserTest('without the back/forward cache a step back restores the session', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openDemo(await stage.openChromium(), demo.url);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  const { id } = await stateOf(page);

  await follow(page, '/other');
  await stepBack(page);
  await until(page, () => location.pathname === '/');
  await untilReady(page);

  const { id: restored, outcomes, value, documents } = await stateOf(page);
  assert.deepEqual({ restored, outcomes, value, documents }, { restored: id, outcomes: ['restored'], value: 1, documents: 2 });
  await assertCountersClean(page);
});

/** Follows a link on the page. */
async function follow(page, path) {
  await page.click(`a[href="${path}"]`);
  await until(page, (path) => location.pathname === path, path);
  await untilConnected(page);
}

/** Goes back without page.goBack(), which never returns if the page comes from the cache. */
async function stepBack(page) {
  await page.evaluate(() => {
    setTimeout(() => history.back());
  });
}
