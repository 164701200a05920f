// What each piece of the layer costs a page, bundled and minified by esbuild.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';

const { build } = createRequire(import.meta.url)('esbuild') as typeof import('esbuild');
const { gzipAsync } = createRequire(import.meta.url)('@gfx/zopfli') as { gzipAsync(bytes: Uint8Array, options: object): Promise<Uint8Array> };

const DIST = new URL('../dist/', import.meta.url).pathname;

interface Page {
  text: string;
  /** Bytes, gzipped. */
  size: number;
  files: string[];
}

async function pageOf(contents: string): Promise<Page> {
  const { metafile, outputFiles } = await build({ stdin: { contents, resolveDir: DIST }, absWorkingDir: DIST, bundle: true, minify: true, format: 'esm', target: 'es2022', outfile: 'page.js', write: false, metafile: true });
  const { inputs } = Object.values(metafile.outputs)[0]!;
  const { contents: bytes, text } = outputFiles[0]!;
  return { text, size: (await gzipAsync(bytes, { numiterations: 15 })).length, files: Object.keys(inputs).filter((file) => file !== '<stdin>').sort() };
}

const slimWith = (pieces: string): Promise<Page> =>
  pageOf(`import { attachOnly, ${pieces} } from './app.mjs'; import { connect } from './slim.mjs'; window.session = attachOnly(connect(window.ticket), [${pieces}]);`);

/** A text of each piece that its page has and no other. */
const MARKS = {
  calls: 'calls wait for their answers',
  streams: 'was left',
  handlers: 'calls wait for the page',
  observables: 'observable ',
  rooms: 'The page is not a member',
  arrays: 'The padding of an array',
  messagePack: 'A value is not MessagePack',
  pageErrors: 'unhandledrejection',
};

/** What a piece adds to a page that has none, at most, in bytes gzipped. Lower it when a piece shrinks. */
const COSTS = { calls: 579, streams: 896, handlers: 796, observables: 634, rooms: 1_257, arrays: 332, messagePack: 1_161, pageErrors: 263 };

/** The slim client, and that with the layer's core, at most. */
const [SLIM, CORE] = [8_873, 12_037];
/** All pieces with the slim client, at most. */
const ALL = 16_994;
/** All of them but MessagePack, which pages need only if their server is built with it. */
const JSON_ONLY = 15_850;

const none = await slimWith('');

test('a page without pieces has the core alone, and one client', async () => {
  const { size } = await pageOf(`import { connect } from './slim.mjs'; window.session = connect(window.ticket);`);
  assert.deepEqual(none.files, ['app.mjs', 'slim.mjs']);
  for (const [piece, mark] of Object.entries(MARKS)) assert.ok(!none.text.includes(mark), piece);
  assert.ok(size <= SLIM && none.size <= CORE, `${size} bytes, and ${none.size} with the core`);
});

for (const [piece, cost] of Object.entries(COSTS)) {
  test(`a page pays for a piece that it uses, and for no other: ${piece}`, async () => {
    const { text, size } = await slimWith(piece);
    for (const [other, mark] of Object.entries(MARKS)) assert.equal(text.includes(mark), other === piece || (piece === 'streams' && other === 'calls'), other);
    assert.ok(size - none.size <= cost, `${size - none.size} bytes`);
  });
}

test('a page that attaches everything has every piece', async () => {
  const { text, size } = await pageOf(`import { attach } from './app.mjs'; import { connect } from './slim.mjs'; window.session = attach(connect(window.ticket));`);
  for (const [piece, mark] of Object.entries(MARKS)) assert.ok(text.includes(mark), piece);
  assert.ok(size <= ALL, `every piece: ${size} bytes`);
});

test('a page with every piece but MessagePack', async () => {
  const { text, size } = await slimWith('streams, handlers, observables, rooms, arrays, pageErrors');
  for (const [piece, mark] of Object.entries(MARKS)) assert.equal(text.includes(mark), piece !== 'messagePack', piece);
  assert.ok(size <= JSON_ONLY, `but MessagePack: ${size} bytes`);
});

test('the README has these figures', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const rows = { 'the slim client alone': SLIM, 'with text, bytes, JSON and events': CORE, 'with all pieces but `messagePack`': JSON_ONLY, 'with all pieces, or `attach`': ALL };
  for (const [page, size] of Object.entries(rows)) assert.ok(readme.includes(`| ${page} | ${size.toLocaleString('en')} |`), page);
  for (const [piece, cost] of Object.entries(COSTS)) assert.match(readme, new RegExp(`\\| \`${piece}\` \\|[^|]*\\| ${cost.toLocaleString('en')} \\|`));
});
