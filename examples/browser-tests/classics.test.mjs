// The classics: the chat on axum, the list of things to do on actix-web and the ticker on warp.

import assert from 'node:assert/strict';

import { browserTest, openTab, until } from './support.mjs';

const read = (page, selector) => page.$$eval(selector, (elements) => elements.map(({ textContent }) => textContent));
const shows = (page, selector, texts) => until(page, ([selector, texts]) => {
  const shown = [...document.querySelectorAll(selector)].map(({ textContent }) => textContent);
  return JSON.stringify(shown) === JSON.stringify(texts);
}, [selector, texts]);

async function type(page, field, text) {
  await page.fill(field, text);
  await page.dispatchEvent(field, 'change');
}

browserTest('the classics do on each framework what they should', async (stage) => {
  const [axum, actix, warp] = await Promise.all(['axum', 'actix', 'warp'].map((name) => stage.startExample(`classics-${name}`)));
  const context = await stage.openChromium();
  const complaints = [];
  const open = async (url) => {
    const page = await openTab(context, url);
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    return page;
  };

  const [ada, ben] = [await open(`${axum.url}/chat`), await open(`${axum.url}/chat`)];
  await type(ada, '#me', 'Ada');
  await shows(ada, '#who', ['Ada']);
  await type(ben, '#me', 'Ben');
  await shows(ben, '#who', ['Ada, Ben']);
  await until(ben, () => !document.getElementById('say').disabled);
  await type(ben, '#say', 'hello');
  await shows(ada, '#log li', ['Ben joined', 'Ben: hello']);
  assert.deepEqual(await read(ben, '#log li'), ['Ben: hello']);
  await ben.evaluate(() => lobby.leave());
  await shows(ada, '#log li', ['Ben joined', 'Ben: hello', 'Ben left']);

  const [one, other] = [await open(`${actix.url}/todos`), await open(`${actix.url}/todos`)];
  await type(one, '#add', 'milk');
  await shows(other, '#list li', ['milk']);
  await type(other, '#add', ' ');
  await until(other, () => document.getElementById('error').value === 'say it in 1 to 100 letters');
  await type(other, '#add', 'bread');
  await shows(one, '#list li', ['milk', 'bread']);
  assert.equal(await other.inputValue('#add'), '');
  await one.click('#list li:nth-child(2) input');
  await until(other, () => document.querySelector('#list li:nth-child(2) input').checked);

  const ticker = await open(`${warp.url}/ticker`);
  await until(ticker, () => Number(document.getElementById('seconds').value) > 0);
  assert.deepEqual(complaints.filter((text) => text.includes('stillhere:')), []);
});
