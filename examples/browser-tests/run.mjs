// Runs the *.test.mjs of this folder one after another, for each framework, against programs that are built first if need be.
// Names of frameworks and parts of file names choose fewer: npm test -- warp cuts
//
// What the tests find in their environment:
//   STILLHERE_DEMO, STILLHERE_DROP_IN  the paths of the framework's programs
//   STILLHERE_WEBRTC                   the path of the demo over WebRTC
//   STILLHERE_SHARE                    the share of a long test's repetitions that is run; if it is not set by hand, all on the first framework
//                                      and a fifth on the others, because what the core and the client do is the same on each

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { runTests } from '../../core/client/run-tests.mjs';

const FRAMEWORKS = ['axum', 'actix', 'warp'];
/** nginx does the same before each of them, and the demo over WebRTC is there once. */
const ONCE = ['nginx.test.mjs', 'webrtc.test.mjs'];

const folder = import.meta.dirname;

/** Builds the programs, which does nothing where they are up to date, and gives the path of each. */
function build() {
  const options = ['--package', 'stillhere-examples', '--package', 'stillhere-example-webrtc', '--bins', '--locked', '--message-format', 'json-render-diagnostics'];
  const cargo = spawnSync('cargo', ['build', '--quiet', ...options], {
    cwd: folder,
    encoding: 'utf8',
    maxBuffer: Infinity,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (cargo.error) throw cargo.error;
  if (cargo.status !== 0) throw new Error('the examples do not build');
  const messages = cargo.stdout.trim().split('\n').map((line) => JSON.parse(line));
  return new Map(messages.filter(({ executable }) => executable).map(({ executable, target }) => [target.name, executable]));
}

/** Which frameworks and which files the command line chooses. */
function choose(words) {
  const frameworks = FRAMEWORKS.filter((name) => words.includes(name));
  const parts = words.filter((word) => !FRAMEWORKS.includes(word));
  const files = readdirSync(folder).filter((name) => name.endsWith('.test.mjs')).sort();
  return {
    frameworks: frameworks.length > 0 ? frameworks : FRAMEWORKS,
    files: files.filter((name) => parts.length === 0 || parts.some((part) => name.includes(part))),
  };
}

const { frameworks, files } = choose(process.argv.slice(2));
const programs = build();
const { STILLHERE_SHARE } = process.env;
const total = { passed: 0, failed: 0 };
process.env.STILLHERE_WEBRTC = programs.get('webrtc');
for (const framework of frameworks) {
  const isFirst = framework === frameworks[0];
  const began = performance.now();
  process.env.STILLHERE_DEMO = programs.get(framework);
  process.env.STILLHERE_DROP_IN = programs.get(`drop-in-${framework}`);
  process.env.STILLHERE_SHARE = STILLHERE_SHARE ?? (isFirst ? '1' : '0.2');
  console.log(`\n${framework}:`);
  const chosen = files.filter((name) => isFirst || !ONCE.includes(name)).map((name) => join(folder, name));
  const { passed, failed } = await runTests(chosen, { concurrency: 1, timeout: 300_000 });
  console.log(`${framework}: ${passed} passed, ${failed} failed in ${Math.round((performance.now() - began) / 1000)} s`);
  total.passed += passed;
  total.failed += failed;
}
console.log(`${total.passed} passed, ${total.failed} failed`);
