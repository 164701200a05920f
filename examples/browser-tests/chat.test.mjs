// The recipe of a chat: who is there, and what they say, over a cut.

import assert from 'node:assert/strict';

import { browserTest, openTab, until } from './support.mjs';

const read = (page, selector) => page.$$eval(selector, (elements) => elements.map(({ textContent }) => textContent));
const shows = (page, selector, text) => until(page, ([selector, text]) => [...document.querySelectorAll(selector)].at(-1)?.textContent === text, [selector, text]);

async function type(page, field, text) {
  await page.fill(field, text);
  await page.dispatchEvent(field, 'change');
}

browserTest('a chat shows who is there and what they say, and somebody who was away misses nothing', async (stage) => {
  const { url } = await stage.startRecipes();
  const [ada, bob] = [await stage.openChromium(), await stage.openChromium()];
  const first = await openTab(ada, `${url}/chat`);
  await shows(first, '#who', 'somebody');
  await type(first, '#me', 'Ada');
  const second = await openTab(bob, `${url}/chat`);
  await shows(second, '#who', 'Ada, somebody');
  await type(second, '#me', 'Bob');
  await shows(first, '#who', 'Ada, Bob');
  await type(first, '#say', 'hello');
  await shows(second, '#log li', 'Ada: hello');

  await bob.setOffline(true);
  await type(second, '#say', 'said while offline');
  for (const number of [1, 2, 3]) await type(first, '#say', `line ${number}`);
  await bob.setOffline(false);
  await shows(first, '#log li', 'Bob: said while offline');
  await shows(second, '#log li', 'Ada: line 3');
  assert.deepEqual(await read(second, '#log li'), ['Ada: hello', 'Bob: said while offline', 'Ada: line 1', 'Ada: line 2', 'Ada: line 3']);
  await shows(first, '#who', 'Ada, Bob');

  await bob.close(); // without a word, as a laptop does
  await shows(first, '#who', 'Ada, Bob (away)');
});
