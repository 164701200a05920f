// Bundles each *.test.ts in test/ into a temporary folder and runs it with Node's test runner. With
// an argument, only the files whose name contains it. slim*.test.ts test the slim client.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { build } from 'esbuild';

import { runTests } from './run-tests.mjs';

const folder = join(import.meta.dirname, 'test');
const names = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.test.ts') && name.includes(process.argv[2] ?? '')).sort();
const bundled = mkdtempSync(join(tmpdir(), 'stillhere-test-'));
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --enable-source-maps`.trim();
process.chdir(import.meta.dirname);

try {
  for (const isSlim of [false, true]) {
    await build({
      entryPoints: names.filter((name) => name.startsWith('slim') === isSlim).map((name) => join(folder, name)),
      outdir: bundled,
      outbase: folder,
      outExtension: { '.js': '.mjs' },
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      sourcemap: 'inline',
      logLevel: 'warning',
      define: {
        SLIM: String(isSlim),
        // Tests find files, such as the golden frames, as if they still were in test/.
        'import.meta.url': JSON.stringify(pathToFileURL(join(folder, 'bundled.mjs')).href),
        'import.meta.dirname': JSON.stringify(folder),
      },
    });
  }
  const files = names.map((name) => join(bundled, name.replace(/\.ts$/, '.mjs')));
  const { passed, failed } = await runTests(files, { concurrency: true, timeout: 60_000 });
  console.log(`client: ${passed} passed, ${failed} failed`);
} finally {
  rmSync(bundled, { recursive: true, force: true });
}
