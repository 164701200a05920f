// Pages whose body Turbo replaces: each page has the session of its own ticket, and closes it when
// its body is removed.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { livingSessions, scriptTag, sendPage, startSite } from './site.mjs';
import { browserTest, eventually, openTab, until } from './support.mjs';

const TURBO = readFileSync(fileURLToPath(import.meta.resolve('@hotwired/turbo')).replace(/[^/]*$/, 'turbo.es2017-umd.js'));
const VISITS = 5;

for (const place of ['body', 'head']) {
  browserTest(`a swapped-in page has its own session and the one before is let go, with the script in the ${place}`, async (stage) => {
    const { origin } = await startTurbo(stage, (tag) => (place === 'head' ? [tag, ''] : ['', tag]));
    const page = await openTab(await stage.openChromium(), `${origin}/a`);
    await untilLive(page);
    await page.evaluate(() => (window.sessions = [stillhere.session]));

    for (let visits = 1; visits <= VISITS; visits += 1) {
      await visit(page, visits % 2 ? '/b' : '/a');
      // The new body may be there before the script in the head has run.
      await until(page, () => !sessions.includes(stillhere.session));
      await untilLive(page);
      await page.evaluate(() => sessions.push(stillhere.session));
    }

    const ended = await page.evaluate(() => sessions.map(({ status }) => status.reason));
    assert.deepEqual(ended, [...Array(VISITS).fill('Closed'), ''], 'one window all the time, each session but the last let go');
    assert.equal((await livingSessions(page)).length, 1);
    assert.equal(await page.evaluate(() => document.querySelectorAll('[data-stillhere]').length), 1);
  });
}

browserTest('a session whose script element Turbo keeps stays over visits', async (stage) => {
  const { origin } = await startTurbo(stage, (tag) => ['', `<div id="live" data-turbo-permanent>${tag}</div>`]);
  const page = await openTab(await stage.openChromium(), `${origin}/a`);
  await untilLive(page);
  const id = await page.evaluate(() => (window.kept = stillhere.session).id);

  for (const path of ['/b', '/a', '/b']) await visit(page, path);

  assert.equal(await page.evaluate(() => stillhere.session === kept && kept.status.state === 'connected'), true);
  assert.deepEqual(await livingSessions(page), [id]);
});

/**
 * Starts a site of two pages that link to each other; `place` returns the parts of the tag in the
 * head and in the body.
 */
export async function startTurbo(stage, place) {
  const demo = await stage.startDemo();
  const tickets = [];
  const origin = await startSite(stage, demo, async ({ url }, response) => {
    if (url === '/turbo.js') {
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(TURBO);
      return true;
    }
    if (url !== '/a' && url !== '/b') return false;
    const ticket = await demo.ticket('echo');
    tickets.push(ticket);
    const [head, body] = place(scriptTag(ticket));
    return sendPage(response, `<head><title>${url}</title><script src="/turbo.js"></script>${head}</head>
      <body><p id="path">${url}</p><a href="/a">a</a> <a href="/b">b</a>${body}</body>`);
  });
  return { origin, demo, tickets };
}

/** Follows a link as Turbo does, and waits until the page it leads to is live. */
async function visit(page, path) {
  await page.click(`a[href="${path}"]`);
  await until(page, (path) => document.getElementById('path').textContent === path, path);
  await untilLive(page);
}

/** Waits until the page has one connected session, and the previous page's session is gone. */
export const untilLive = (page) =>
  eventually('one session lives and is connected', async () => {
    const living = await livingSessions(page);
    return living.length === 1 && (await page.evaluate((id) => stillhere.session.id === id && stillhere.session.status.state === 'connected', living[0]));
  });
