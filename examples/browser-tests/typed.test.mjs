// The recipe whose types come from Rust, shown by React and by Svelte: under Vite, and built.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { build, createServer } from 'vite';

import { browserTest, freePort, openTab, until } from './support.mjs';

const RECIPE = join(import.meta.dirname, '../recipes/typed');
const CLIENT = join(import.meta.dirname, '../../core/client');

browserTest('React shows a list that the server keeps, under Vite and StrictMode, and a reload changes nothing', async (stage) => {
  const { url } = await stage.startRecipes();
  process.env.SERVER = url;
  const port = await freePort();
  const vite = stage.keep(await createServer({ root: install(stage), logLevel: 'warn', server: { host: '127.0.0.1', port, strictPort: true } }));
  await vite.listen();
  await use(stage, `http://127.0.0.1:${port}/react.html`);
});

browserTest('Svelte does too, as Vite builds it, and the types of both fit those of the server', async (stage) => {
  const folder = install(stage);
  await build({ root: folder, logLevel: 'warn' });
  const { url } = await stage.startRecipes({ DIST: join(folder, 'dist') });
  await use(stage, `${url}/svelte.html`);

  const compile = () => promisify(execFile)(process.execPath, [join(CLIENT, 'node_modules/typescript/bin/tsc'), '-p', folder]);
  await compile();
  // A name that the server does not have.
  const page = readFileSync(join(folder, 'react-page.tsx'), 'utf8');
  writeFileSync(join(folder, 'wrong.tsx'), page.replace('{ index, done: !done }', '{ index, isDone: !done }'));
  await assert.rejects(compile(), ({ stdout }) => /wrong\.tsx.*No overload matches/.test(stdout) && !stdout.includes('react-page.tsx'));
});

/** The recipe's folder with what its page says to install. */
function install(stage) {
  const folder = stage.makeFolder();
  cpSync(RECIPE, folder, { recursive: true });
  mkdirSync(join(folder, 'node_modules'));
  for (const name of ['react', 'react-dom', 'svelte', '@sveltejs', '@types']) symlinkSync(join(import.meta.dirname, 'node_modules', name), join(folder, 'node_modules', name));
  symlinkSync(CLIENT, join(folder, 'node_modules/stillhere'));
  return folder;
}

/** Uses a page as a person does. */
async function use(stage, url) {
  const page = await openTab(await stage.openChromium(), url);
  await add(page, '');
  await until(page, () => document.querySelector('[role=alert]')?.textContent === 'an item needs a text');
  for (const text of ['milk', 'bread']) {
    await add(page, text);
    await until(page, (text) => document.querySelector('li:last-child')?.textContent.trim() === text, text);
  }
  await page.click('li:last-child input');
  await until(page, () => document.querySelector('li:last-child input').checked);
  await page.reload();
  await until(page, () => document.querySelectorAll('li').length === 2);
  const items = () => [...document.querySelectorAll('li')].map((item) => [item.textContent.trim(), item.querySelector('input').checked]);
  assert.deepEqual(await page.evaluate(items), [['milk', false], ['bread', true]]);
  assert.equal(await page.getAttribute('main', 'data-state'), 'connected');
}

async function add(page, text) {
  await until(page, () => document.querySelector('main')?.dataset.state === 'connected');
  await page.fill('form input', text);
  await page.click('form button');
}
