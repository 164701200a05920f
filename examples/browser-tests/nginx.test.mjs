// The application in drop-in/ under a path behind nginx, which closes an idle connection after five
// seconds (drop-in/nginx.conf).

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { addNote, browserTest, notesOf, openNotes, until, untilLive, untilNewest } from './support.mjs';

/** Milliseconds: longer than the idle timeout of nginx. */
const IDLE = 8_000;

browserTest('behind nginx a heartbeat below its idle timeout keeps an idle session connected', async (stage) => {
  const url = await stage.startNginx(await stage.startDropIn('--under', '/app', '--heartbeat', '2'));
  const context = await stage.openChromium();
  const sockets = socketsOf(context);
  const page = await openNotes(context, url, 'Ada');
  await page.fill('#draft', 'slow thoughts');
  const { id } = await notesOf(page);

  await sleep(IDLE);

  assert.equal(await page.evaluate(() => stillhere.session.status.state), 'connected');
  assert.deepEqual([sockets.opened, sockets.closed], [1, 0]);
  assert.deepEqual(await notesOf(page), { id, outcome: 'opened', draft: 'slow thoughts', notes: [] });
  assert.match(sockets.url, /\/app\/stillhere\//);
});

browserTest('behind nginx a heartbeat above its idle timeout has the connection cut, and the session resumes', async (stage) => {
  const url = await stage.startNginx(await stage.startDropIn('--under', '/app'));
  const context = await stage.openChromium();
  const sockets = socketsOf(context);
  const page = await openNotes(context, url, 'Ada');
  await addNote(page, 'before the cut');
  await untilNewest(page, 'Ada: before the cut');
  await page.fill('#draft', 'slow thoughts');
  const { id } = await notesOf(page);

  await until(page, () => stillhere.session.status.outcome === 'resumed');
  assert.deepEqual([sockets.opened, sockets.closed], [2, 1]);
  assert.deepEqual(await notesOf(page), { id, outcome: 'resumed', draft: 'slow thoughts', notes: ['Ada: before the cut'] });
  await page.click('#add');
  await untilNewest(page, 'Ada: slow thoughts');
  assert.deepEqual((await notesOf(page)).notes, ['Ada: slow thoughts', 'Ada: before the cut']);
});

browserTest('behind nginx HTTP requests carry a session where WebSockets are blocked, and nothing is held back', async (stage) => {
  const url = await stage.startNginx(await stage.startDropIn('--under', '/app', '--heartbeat', '2'));
  const context = await stage.openChromium();
  await context.addInitScript(() => {
    globalThis.WebSocket = class {
      constructor() {
        throw new Error('blocked');
      }
    };
  });
  const page = await openNotes(context, url, 'Ada');
  assert.equal(await page.evaluate(() => stillhere.session.connection), 'streamed');
  await page.fill('#draft', 'slow thoughts');
  const { id } = await notesOf(page);

  await sleep(IDLE);

  assert.deepEqual(await notesOf(page), { id, outcome: 'opened', draft: 'slow thoughts', notes: [] }, 'it was never cut');
  await page.click('#add');
  await untilNewest(page, 'Ada: slow thoughts');
});

browserTest('behind nginx F5 keeps the session, and logging out is shown in every tab', async (stage) => {
  const url = await stage.startNginx(await stage.startDropIn('--under', '/app'));
  const context = await stage.openChromium();
  const page = await openNotes(context, url, 'Ada');
  await page.fill('#draft', 'half a thou');
  const { id } = await notesOf(page);
  await page.reload();
  await untilLive(page);
  assert.deepEqual(await notesOf(page), { id, outcome: 'restored', draft: 'half a thou', notes: [] });

  const other = await context.newPage();
  await other.goto(url);
  await untilLive(other);
  await other.click('text=Log out');

  await until(other, () => location.pathname === '/app/login');
  await until(page, () => document.getElementById('status').dataset.state === 'ended');
  assert.match(await page.innerText('#over'), /^You have been logged out\./);
});

/** Counts the WebSockets of all pages opened from now on. */
function socketsOf(context) {
  const sockets = { opened: 0, closed: 0, url: '' };
  const watch = (page) => page.on('websocket', (socket) => {
    sockets.opened += 1;
    sockets.url = socket.url();
    socket.on('close', () => (sockets.closed += 1));
  });
  context.pages().forEach(watch);
  context.on('page', watch);
  return sockets;
}
