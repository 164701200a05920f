// Runs the *.test.mjs of this folder for each framework, those that do not depend on it for the
// first one only, and those of engines/ in each engine: two such runs at a time. It builds the
// programs first if they are out of date. A few files that failed run again at the end, with
// nothing beside them: a test that passes only then is named, because it depends on the machine,
// which is a bug of the test. Each line is printed behind the name of its framework or engine, or
// behind "once". Names of frameworks and engines and parts of file names choose fewer tests:
//
//     npm test -- warp cuts
//     npm test -- axum webkit documents
//
// The tests find these variables in their environment:
//
// - STILLHERE_DEMO, STILLHERE_DROP_IN: the paths of the framework's programs
// - STILLHERE_WEBRTC: the path of the demo over WebRTC
// - STILLHERE_RECIPES, STILLHERE_JOB_RUNNER, STILLHERE_LIVE_PLOT, STILLHERE_RESTARTS: the paths of
//   these programs
// - STILLHERE_CLASSICS_AXUM, STILLHERE_CLASSICS_ACTIX, STILLHERE_CLASSICS_WARP: the classics
// - STILLHERE_SHARE: the share of a long test's repetitions that runs. If it is not set by hand, it
//   is a fifth on the first framework and a tenth on the others, because the core and the client
//   do the same on each
// - STILLHERE_LONG: set if slow and rare tests run too (bash .ci/test --long). All repetitions then
//   run on the first framework and two fifths on the others, and the engines have long outages
// - STILLHERE_ENGINE: the engine for which a file of engines/ runs

import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';

const FRAMEWORKS = ['axum', 'actix', 'warp'];
const ENGINES = ['firefox', 'webkit', 'chromium'];
/**
 * Files of engines/ that Chromium always runs. It runs the others only in long runs or on request,
 * because it has separate tests for them.
 */
const IN_CHROMIUM_TOO = ['engines/messages.test.mjs', 'engines/origins.test.mjs'];
/**
 * Tests that do not depend on the framework: the client alone, nginx or Vite in front of a server,
 * the demo over WebRTC, and examples that exist for one framework.
 */
const ONCE = [
  'badge', 'boxes', 'chat', 'classics', 'csp', 'drawing_board', 'duplicate', 'ends', 'frozen', 'history', 'job_runner', 'live_plot', 'module', 'nginx', 'nodes', 'outages', 'renewal', 'restarts', 'status', 'turbo', 'typed', 'vite', 'webrtc',
].map((name) => `${name}.test.mjs`);

/** The packages whose programs the tests run. */
const PACKAGES = ['stillhere-examples', ...['classics', 'drawing-board', 'drop-in', 'job-runner', 'live-plot', 'recipes', 'restarts', 'webrtc'].map((name) => `stillhere-example-${name}`)];

const folder = import.meta.dirname;
const isLong = process.env.STILLHERE_LONG !== undefined;

/** Builds the programs unless they are up to date, and returns the path of each. */
function build() {
  const packages = PACKAGES.flatMap((name) => ['--package', name]);
  const options = [...packages, '--bins', '--locked', '--message-format', 'json-render-diagnostics'];
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

/**
 * Returns the frameworks and files chosen on the command line, and the files of engines/ for each
 * engine.
 */
function choose(words) {
  const frameworks = FRAMEWORKS.filter((name) => words.includes(name));
  const engines = ENGINES.filter((name) => words.includes(name));
  const parts = words.filter((word) => ![...FRAMEWORKS, ...ENGINES].includes(word));
  const filesOf = (below) =>
    readdirSync(join(folder, below))
      .filter((name) => name.endsWith('.test.mjs'))
      .map((name) => join(below, name))
      .filter((name) => parts.length === 0 || parts.some((part) => name.includes(part)))
      .sort();
  const isAll = engines.length > 0 || isLong;
  const filesFor = (engine) => filesOf('engines').filter((name) => isAll || engine !== 'chromium' || IN_CHROMIUM_TOO.includes(name));
  return {
    frameworks: frameworks.length > 0 ? frameworks : FRAMEWORKS,
    files: engines.length > 0 ? [] : filesOf('.'),
    engines: (engines.length > 0 ? engines : ENGINES).map((name) => ({ name, files: filesFor(name) })).filter(({ files }) => files.length > 0),
  };
}

/** So many files may fail and run again. If more do, it is not by chance. */
const MOST_FILES_AGAIN = 3;

/**
 * Runs the files for one framework in a separate process, which has its own environment. Returns
 * the counts, and how to run the files that failed again.
 */
async function test(framework, files, share, { name = framework, ...environment } = {}) {
  const began = performance.now();
  const child = fork(join(folder, 'framework.mjs'), files.map((name) => join(folder, name)), {
    env: {
      ...process.env,
      STILLHERE_DEMO: programs.get(framework),
      STILLHERE_DROP_IN: programs.get(`drop-in-${framework}`),
      STILLHERE_WEBRTC: programs.get('webrtc'),
      STILLHERE_RECIPES: programs.get('recipes'),
      STILLHERE_DRAWING_BOARD: programs.get('drawing-board'),
      STILLHERE_JOB_RUNNER: programs.get('job-runner'),
      STILLHERE_LIVE_PLOT: programs.get('live-plot'),
      STILLHERE_RESTARTS: programs.get('restarts'),
      ...Object.fromEntries(FRAMEWORKS.map((name) => [`STILLHERE_CLASSICS_${name.toUpperCase()}`, programs.get(`classics-${name}`)])),
      STILLHERE_SHARE: process.env.STILLHERE_SHARE ?? share,
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const tell = (line) => console.log(`${name.padEnd(8)} | ${line}`);
  createInterface(child.stdout).on('line', tell);
  let tally = { passed: 0, failed: 1, failures: ['the process of the tests is gone'], failedFiles: [] };
  child.on('message', (counts) => (tally = counts));
  await once(child, 'close');
  tell(`${tally.passed} passed, ${tally.failed} failed in ${Math.round((performance.now() - began) / 1000)} s`);
  return {
    ...tally,
    failures: tally.failures.map((failure) => `${name}: ${failure}`),
    again: () => test(framework, tally.failedFiles.map((file) => relative(folder, file)), share, { name, ...environment }),
  };
}

const { frameworks: [first, ...rest], files, engines } = choose(process.argv.slice(2));
const programs = build();
const onOne = files.filter((name) => ONCE.includes(name));
const onEach = files.filter((name) => !ONCE.includes(name));

/** The runs that have not begun; long ones come first, so that both lanes end at about the same time. */
const runs = [
  ...(onEach.length > 0 ? [() => test(first, onEach, isLong ? '1' : '0.2')] : []),
  ...(onOne.length > 0 ? [() => test(first, onOne, isLong ? '1' : '0.2', { name: 'once' })] : []),
  ...(onEach.length > 0 ? rest.map((framework) => () => test(framework, onEach, isLong ? '0.4' : '0.1')) : []),
  ...engines.map(({ name, files }) => () => test(first, files, '1', { name, STILLHERE_ENGINE: name })),
];
const tallies = [];

/** Runs one after another until none is left. */
async function lane() {
  for (let run = runs.shift(); run; run = runs.shift()) tallies.push(await run());
}

/** Runs the files that failed again, one after another, and counts the tests that then pass as passed. */
async function runFailedFilesAgain() {
  const files = tallies.reduce((total, { failedFiles }) => total + failedFiles.length, 0);
  if (files === 0 || files > MOST_FILES_AGAIN) return;
  for (const tally of tallies.filter(({ failedFiles }) => failedFiles.length > 0)) {
    const second = await tally.again();
    if (second.failed > 0) continue;
    for (const failure of tally.failures) console.log(`passed only when it ran again, which is a bug: ${failure}`);
    tally.passed += tally.failed;
    Object.assign(tally, { failed: 0, failures: [] });
  }
}

// Two run at a time, because the tests mostly wait.
await Promise.all([lane(), lane()]);
await runFailedFilesAgain();
// Failures are listed again at the end, where readers look first.
for (const failure of tallies.flatMap(({ failures }) => failures)) console.log(`failed on ${failure}`);
const sum = (count) => tallies.reduce((total, tally) => total + tally[count], 0);
console.log(`${sum('passed')} passed, ${sum('failed')} failed`);
if (tallies.length === 0 || tallies.some(({ passed, failed }) => passed === 0 || failed > 0)) process.exitCode = 1;
