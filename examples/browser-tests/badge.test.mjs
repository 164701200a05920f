// The badge in Chromium, under a strict Content-Security-Policy, with a session that the test
// controls.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { browserTest, eventually } from './support.mjs';

const DIST = new URL('../../core/client/dist/', import.meta.url);
const PAGE = '<!doctype html><title>badge</title><input><stillhere-badge reload></stillhere-badge><script type="module" src="/page.mjs"></script>';
const SCRIPT = `
import '/dist/badge.mjs';

const badge = document.querySelector('stillhere-badge');
const connected = { state: 'connected', outcome: 'opened', code: 0, reason: '', text: '', retryAt: null, obstacle: null, unacknowledged: 0 };
const told = [];
const session = { status: connected, onstatus: ({ state }) => told.push(state), retries: 0, retry: () => (session.retries += 1) };
badge.session = session;
window.change = (status) => {
  session.status = { ...connected, ...status };
  session.onstatus(session.status);
};
window.translate = (texts) => (badge.texts = texts);
window.look = () => {
  const [box, text, detail, button] = ['div', '[role=status]', 'small', 'button'].map((selector) => badge.shadowRoot.querySelector(selector));
  const isShown = getComputedStyle(box).display !== 'none';
  return { isShown, text: text.textContent, detail: detail.textContent, button: button.hidden ? '' : button.textContent, retries: session.retries, told: told.join(' ') };
};
`;

const look = (page) => page.evaluate(() => window.look());
const change = (page, status) => page.evaluate((status) => window.change({ ...status, retryAt: status.wait ? Date.now() + status.wait : null }), status);

async function openBadge(stage) {
  const answer = ({ url }, response) => {
    const type = url === '/' ? 'text/html' : 'text/javascript';
    response.setHeader('content-type', type);
    response.setHeader('content-security-policy', "default-src 'self'");
    if (url === '/') response.end(PAGE);
    else if (url === '/page.mjs') response.end(SCRIPT);
    else if (url === '/dist/badge.mjs') response.end(readFileSync(new URL('badge.mjs', DIST)));
    else response.writeHead(404).end();
  };
  const origin = await stage.serve(createServer(answer));
  const context = await stage.openChromium();
  const page = await context.newPage();
  await page.goto(origin);
  await page.waitForFunction(() => window.look);
  return page;
}

browserTest('the badge shows a drop after a while, with a countdown and a button that the keyboard reaches', async (stage) => {
  const page = await openBadge(stage);
  assert.equal((await look(page)).isShown, false);
  await change(page, { state: 'reconnecting', wait: 60_000 });
  assert.equal((await look(page)).isShown, false);
  await eventually('the badge is shown', async () => (await look(page)).isShown);
  const { text, detail, button } = await look(page);
  assert.match(text, /Reconnecting/);
  assert.match(detail, /Next attempt in \d+ s\./);
  assert.equal(button, 'Try now');
  await eventually('the countdown goes on', async () => (await look(page)).detail !== detail);
  await page.focus('input');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal((await look(page)).retries, 1);
  await page.evaluate(() => window.translate({ reconnecting: 'Verbindung verloren …' }));
  assert.match((await look(page)).text, /Verbindung/);
  await change(page, { state: 'connected' });
  const { isShown, told } = await look(page);
  assert.equal(isShown, false);
  assert.equal(told, 'reconnecting connected');
});

browserTest('the badge says that a session is over and reloads only when asked', async (stage) => {
  const page = await openBadge(stage);
  await page.fill('input', 'typed');
  await change(page, { state: 'ended', reason: 'Expired' });
  const { isShown, text, detail, button } = await look(page);
  assert.deepEqual([isShown, text, button], [true, 'Your session has ended.', 'Reload']);
  assert.match(detail, /still here/);
  assert.equal(await page.inputValue('input'), 'typed');
  const reloaded = page.waitForEvent('load');
  await page.locator('stillhere-badge').locator('button').click();
  await reloaded;
});
