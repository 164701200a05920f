import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import * as client from '../src/slim';
import { checkBuilt } from './check_built';

const { build } = createRequire(import.meta.url)('esbuild') as typeof import('esbuild');

await checkBuilt('slim.mjs', client, 8_271);

test('a page with the slim client and the layer has no other client', async () => {
  const contents = `
    import { attach } from './app.mjs';
    import { connect } from './slim.mjs';
    attach(connect(ticket));`;
  const resolveDir = new URL('../dist/', import.meta.url).pathname;
  const { metafile } = await build({ stdin: { contents, resolveDir }, absWorkingDir: resolveDir, bundle: true, outfile: 'page.js', write: false, metafile: true });
  const [page] = Object.values(metafile.outputs);
  assert.deepEqual(Object.keys(page!.inputs).sort(), ['<stdin>', 'app.mjs', 'slim.mjs']);
});
