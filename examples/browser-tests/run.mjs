// Runs every *.test.mjs of this folder, one after another, against a demo that is built first if need be.
// The tests find the demo's program in the environment variable STILLHERE_DEMO.

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { runTests } from '../../core/client/run-tests.mjs';

const folder = import.meta.dirname;

/** Builds the demo, which does nothing where it is up to date, and gives the path of its program. */
function buildDemo() {
  const options = ['--package', 'stillhere-examples', '--bin', 'axum', '--locked', '--message-format', 'json-render-diagnostics'];
  const cargo = spawnSync('cargo', ['build', '--quiet', ...options], {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: Infinity,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (cargo.error) throw cargo.error;
  if (cargo.status !== 0) throw new Error('the demo does not build');
  const messages = cargo.stdout.trim().split('\n').map((line) => JSON.parse(line));
  return messages.find(({ executable, target }) => executable && target.name === 'axum').executable;
}

process.env.STILLHERE_DEMO ??= buildDemo();
const files = readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort().map((name) => join(folder, name));
const { passed, failed } = await runTests(files, { concurrency: 1, timeout: 300_000 });
console.log(`${passed} passed, ${failed} failed`);
