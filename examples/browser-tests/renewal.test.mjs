// Pages with unusable tickets: each gets a new session automatically.

import assert from 'node:assert/strict';

import { scriptTag, sendPage, startSite } from './site.mjs';
import { browserTest, openTab, until, untilConnected } from './support.mjs';

/** The session in use, and how often each outcome occurred in this document. */
const stateOf = (page) => page.evaluate(() => ({ id: demo.session.id, outcomes: [...demo.outcomes], value: demo.value }));

browserTest('a page that a step back takes from the cache gets a new session where restore was not chosen', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openTab(await stage.openChromium(), `${demo.url}/other`);
  await untilConnected(page);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  const { id } = await stateOf(page);
  let fetched = 0;
  await page.route('**/other', (route) => {
    fetched += 1;
    return route.continue();
  });
  await page.unroute('**/other'); // Interception would disable the cache.

  await page.goto(`${demo.url}/assets/icon.svg`);
  await page.evaluate(() => {
    setTimeout(() => history.back());
  });
  await until(page, () => window.demo?.outcomes.length > 0);

  const ticket = await page.evaluate(() => JSON.parse(document.querySelector('[data-stillhere]').dataset.stillhere).id);
  assert.equal(ticket, id, 'the page came from the cache, with the ticket that was used');
  const after = await stateOf(page);
  assert.notEqual(after.id, id);
  assert.deepEqual([after.outcomes, after.value], [['opened'], 0]);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  assert.equal(fetched, 0);
});

browserTest('a page that the browser keeps in its cache gets a session for each tab', async (stage) => {
  const demo = await stage.startDemo();
  const loads = [];
  const origin = await startSite(stage, demo, async ({ url, headers }, response) => {
    if (url !== '/page') return false;
    loads.push(headers['cache-control'] ?? '');
    return sendPage(response, `<head></head><body>${scriptTag(await demo.ticket('echo'))}</body>`, { 'cache-control': 'max-age=600' });
  });
  const context = await stage.openChromium();
  const first = await openTab(context, `${origin}/page`);
  await live(first);
  const { id } = await sessionOf(first);

  const second = await context.newPage();
  await second.goto(`${origin}/page`);
  await live(second);

  assert.equal(await ticketIn(second), id, 'the page came from the cache');
  const { id: other, outcome } = await sessionOf(second);
  assert.notEqual(other, id);
  assert.equal(outcome, 'opened');
  assert.deepEqual(loads, ['', 'no-cache'], 'one page load, and one past the cache for the ticket');
  assert.deepEqual(await sessionOf(first), { id, outcome: 'opened' }, 'the first is left alone');

  // The first is gone: its session waits, but not for a page that has never chosen to be restored.
  await first.close();
  const third = await context.newPage();
  await third.goto(`${origin}/page`);
  await live(third);
  assert.equal((await sessionOf(third)).outcome, 'opened');
  assert.ok(![id, other].includes((await sessionOf(third)).id));
});

browserTest('after a restart of the server a page has a new session, and knows it', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openTab(await stage.openChromium(), `${demo.url}/other`);
  await untilConnected(page);
  await page.click('#add');
  await until(page, () => demo.value === 1);
  const { id } = await stateOf(page);

  await demo.kill();
  await until(page, () => demo.status.state === 'reconnecting');
  await stage.startDemo(demo.port);
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await until(page, () => demo.status.outcome === 'renewed');

  const after = await stateOf(page);
  assert.notEqual(after.id, id);
  assert.deepEqual([after.outcomes, after.value], [['opened', 'renewed'], 0]);
  await page.click('#add');
  await until(page, () => demo.value === 1);
});

browserTest('a page for which there was no room gets a session once there is', async (stage) => {
  const demo = await stage.startDemo();
  const refused = { protocol: 'stillhere.v1', refused: { code: 4201, retryAfter: 500, text: 'there was no room for it' } };
  let loads = 0;
  const origin = await startSite(stage, demo, async ({ url }, response) => {
    if (url !== '/page') return false;
    loads += 1;
    return sendPage(response, `<head></head><body>${scriptTag(loads < 3 ? refused : await demo.ticket('echo'))}</body>`);
  });
  const page = await openTab(await stage.openChromium(), `${origin}/page`);
  await until(page, () => stillhere.session.status.reason === 'Full');
  assert.equal(await page.evaluate(() => stillhere.session.status.state), 'connecting');
  await live(page);
  assert.deepEqual([(await sessionOf(page)).outcome, loads], ['opened', 3]);
});

browserTest('under Trusted Types a page gets a new session from an address, and is told why it gets none from itself', async (stage) => {
  const demo = await stage.startDemo();
  const origin = await startSite(stage, demo, async ({ url }, response) => {
    if (url === '/ticket') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(await demo.ticket('echo')));
      return true;
    }
    if (url !== '/named' && url !== '/unnamed') return false;
    const ticket = await demo.ticket('echo');
    const id = 'A'.repeat(22);
    const tag = scriptTag({ ...ticket, id, url: `/stillhere/${id}` }, url === '/named' ? 'data-stillhere-from="/ticket"' : '');
    return sendPage(response, `<head></head><body>${tag}</body>`, { 'content-security-policy': "default-src 'self'; require-trusted-types-for 'script'" });
  });
  const page = await openTab(await stage.openChromium(), `${origin}/named`);
  await live(page);
  await page.goto(`${origin}/unnamed`);
  await until(page, () => window.stillhere?.session.status.state === 'refused');
  assert.match(await page.evaluate(() => stillhere.session.status.text), /TrustedHTML/);
});

browserTest('a static page gets its tickets from an address, the first and any other', async (stage) => {
  const demo = await stage.startDemo();
  const asked = [];
  const origin = await startSite(stage, demo, async ({ url, method }, response) => {
    if (url === '/static') return sendPage(response, '<head></head><body><script src="/stillhere/client.js" data-stillhere-from="/ticket"></script></body>');
    if (url !== '/ticket') return false;
    asked.push(method);
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(await demo.ticket('echo')));
    return true;
  });
  const page = await openTab(await stage.openChromium(), `${origin}/static`);
  await live(page);
  const { id } = await sessionOf(page);
  assert.equal(await demo.fault(id, 'drain'), 204);
  await until(page, () => stillhere.session.status.outcome === 'renewed');
  await page.evaluate(() => {
    stillhere.session.onmessage = (data) => (window.echoed = new TextDecoder().decode(data));
    stillhere.session.send(new TextEncoder().encode('hello'));
  });
  await until(page, () => window.echoed === 'hello');
  assert.deepEqual(asked, ['POST', 'POST']);
  assert.notEqual((await sessionOf(page)).id, id);
});

browserTest('two sessions of one page each come back after a reload, and each get their own new one', async (stage) => {
  const demo = await stage.startDemo();
  const origin = await startSite(stage, demo, async ({ url }, response) => {
    if (url !== '/two') return false;
    const tickets = [await demo.ticket('echo'), await demo.ticket('echo')].map((ticket) => ({ ...ticket, restore: 'echo' }));
    const [one, two] = tickets.map((ticket) => `${scriptTag(ticket)}<script>(window.sessions ??= []).push(stillhere.session)</script>`);
    return sendPage(response, `<head></head><body>${one}${two}</body>`);
  });
  const page = await openTab(await stage.openChromium(), `${origin}/two`);
  const bothLive = () => until(page, () => window.sessions?.length === 2 && sessions.every(({ status }) => status.state === 'connected'));
  const ids = () => page.evaluate(() => sessions.map(({ id }) => id));
  await bothLive();
  const before = await ids();
  for (let loads = 0; loads < 2; loads += 1) {
    await page.reload();
    await bothLive();
    assert.deepEqual(await ids(), before);
    assert.deepEqual(await page.evaluate(() => sessions.map(({ status }) => status.outcome)), ['restored', 'restored']);
  }

  await demo.fault(before[0], 'drain');
  await until(page, () => sessions[0].status.outcome === 'renewed');
  const [renewed, kept] = await ids();
  assert.ok(!before.includes(renewed));
  assert.equal(kept, before[1]);
  await page.reload();
  await bothLive();
  assert.deepEqual(await ids(), [renewed, kept]);
});

const live = (page) => until(page, () => window.stillhere?.session?.status.state === 'connected');
const sessionOf = (page) => page.evaluate(() => ({ id: stillhere.session.id, outcome: stillhere.session.status.outcome }));
const ticketIn = (page) => page.evaluate(() => JSON.parse(document.querySelector('[data-stillhere]').dataset.stillhere).id);
