// The application in drop-in/, as its users see it.

import assert from 'node:assert/strict';

import { addNote, browserTest, notesOf, openNotes, openTab, until, untilLive, untilNewest } from './support.mjs';

browserTest('a note appears at once in every browser, and a draft survives F5', async (stage) => {
  const { url } = await stage.startDropIn();
  const ada = await openNotes(await stage.openChromium(), url, 'Ada');
  const bob = await openNotes(await stage.openChromium(), url, 'Bob <b>');
  assert.equal(await bob.innerText('.user'), 'Bob <b>');
  assert.ok(await bob.isVisible('#none'));

  await addNote(ada, 'the first');
  await untilNewest(bob, 'Ada: the first');
  await addNote(bob, '<i>second</i>');
  await untilNewest(ada, 'Bob <b>: <i>second</i>');
  await ada.fill('#draft', 'half a thou');
  const { id } = await notesOf(ada);
  await ada.reload();
  await untilLive(ada);

  const notes = ['Bob <b>: <i>second</i>', 'Ada: the first'];
  assert.deepEqual(await notesOf(ada), { id, outcome: 'restored', draft: 'half a thou', notes });
});

browserTest('logging out ends the session in every tab, and the page says so', async (stage) => {
  const { url } = await stage.startDropIn();
  const context = await stage.openChromium();
  const page = await openNotes(context, url, 'Ada');
  const bob = await openNotes(await stage.openChromium(), url, 'Bob');
  const other = await context.newPage();
  await other.goto(url);
  await untilLive(other);

  await other.click('text=Log out');

  await until(other, () => location.pathname === '/login');
  await until(page, () => document.getElementById('status').dataset.state === 'ended');
  assert.match(await page.innerText('#over'), /^You have been logged out\.\s+Log in$/);
  assert.ok(await page.isDisabled('#add'));
  await page.click('#over-link');
  await until(page, () => location.pathname === '/login');
  await addNote(bob, 'still here');
  await untilNewest(bob, 'Bob: still here');
});

browserTest('a page whose server restarts asks for a new session, and says why it gets none when that takes a login', async (stage) => {
  const site = await stage.startDropIn();
  const page = await openNotes(await stage.openChromium(), site.url, 'Ada');
  site.terminate();
  await until(page, () => document.getElementById('status').dataset.state === 'reconnecting');
  assert.ok(await page.isHidden('#over'));
  assert.equal(await site.over, 0);

  // The restarted server has lost all logins.
  await stage.startDropIn('--addr', `127.0.0.1:${site.port}`);
  await until(page, () => document.getElementById('status').dataset.state === 'ended');
  assert.match(await page.innerText('#over'), /no longer live: .*it redirects; perhaps a login is needed[^]*Reload/);
});

browserTest('the pages without a session are as they were', async (stage) => {
  const { url } = await stage.startDropIn();
  const page = await openTab(await stage.openChromium(), `${url}/about`);
  assert.equal(await page.evaluate(() => typeof stillhere), 'undefined');
  await page.click('main a');
  await until(page, () => location.pathname === '/login');
});
