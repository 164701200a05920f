// Runs the *.test.mjs of this folder one after another, against programs that are built first if need be: for the first framework alone, then
// for the others side by side, since the tests wait more than they work. Each line is printed behind the name of its framework.
// Names of frameworks and parts of file names choose fewer: npm test -- warp cuts
//
// What the tests find in their environment:
//   STILLHERE_DEMO, STILLHERE_DROP_IN  the paths of the framework's programs
//   STILLHERE_WEBRTC                   the path of the demo over WebRTC
//   STILLHERE_SHARE                    the share of a long test's repetitions that is run; if it is not set by hand, all on the first framework
//                                      and a fifth on the others, because what the core and the client do is the same on each
//   STILLHERE_LONG                     set if what is slow and rare runs too (bash .ci/test --long); then all repetitions run on each framework
//   STILLHERE_BESIDE                   set if the tests of another framework run at the same time

import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

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

/** Runs the files for one framework in a process of its own, because that has an environment of its own; gives the counts. */
async function test(framework, files, share, beside = {}) {
  const began = performance.now();
  const child = fork(join(folder, 'framework.mjs'), files.map((name) => join(folder, name)), {
    env: {
      ...process.env,
      STILLHERE_DEMO: programs.get(framework),
      STILLHERE_DROP_IN: programs.get(`drop-in-${framework}`),
      STILLHERE_WEBRTC: programs.get('webrtc'),
      STILLHERE_SHARE: process.env.STILLHERE_SHARE ?? share,
      ...beside,
    },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const tell = (line) => console.log(`${framework.padEnd(5)} | ${line}`);
  createInterface(child.stdout).on('line', tell);
  let tally = { passed: 0, failed: 1 };
  child.on('message', (counts) => (tally = counts));
  await once(child, 'close');
  tell(`${tally.passed} passed, ${tally.failed} failed in ${Math.round((performance.now() - began) / 1000)} s`);
  return tally;
}

const { frameworks: [first, ...rest], files } = choose(process.argv.slice(2));
const programs = build();
const onEach = files.filter((name) => !ONCE.includes(name));
const others = onEach.length > 0 ? rest : [];
const beside = others.length > 1 ? { STILLHERE_BESIDE: others.join() } : {};
const tallies = [await test(first, files, '1')];
tallies.push(...(await Promise.all(others.map((framework) => test(framework, onEach, process.env.STILLHERE_LONG ? '1' : '0.2', beside)))));
const sum = (count) => tallies.reduce((total, tally) => total + tally[count], 0);
console.log(`${sum('passed')} passed, ${sum('failed')} failed`);
if (tallies.some(({ passed, failed }) => passed === 0 || failed > 0)) process.exitCode = 1;
