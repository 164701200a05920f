// Node's test runner with this project's rules: skipped tests and runs without tests fail. The
// browser tests use it too.

import { basename } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

/**
 * Runs test files, each in a separate process, and prints the results.
 *
 * @param {string[]} files absolute paths
 * @param {{ concurrency: number | boolean, timeout: number }} options how many files run at once,
 *   and how many milliseconds one file may take
 * @returns {Promise<{ passed: number, failed: number, failures: string[] }>} `failures` names what
 *   failed, each with the first line of the reason; a skipped test counts as failed, and so does a
 *   file without tests
 */
export async function runTests(files, { concurrency, timeout }) {
  const tally = { passed: 0, failed: 0, failures: [] };
  const fail = (complaint) => {
    tally.failed += 1;
    tally.failures.push(complaint);
  };

  const events = run({ files, concurrency, timeout });
  events.on('test:pass', ({ name, details, skip, todo }) => {
    if (details.type === 'suite') return;
    if (skip !== undefined || todo !== undefined) fail(`skipped or unfinished: ${name}`);
    // The runner reports a file that holds no test as one test that passed.
    else if (files.includes(name)) fail(`no test in ${name}`);
    else tally.passed += 1;
  });
  events.on('test:fail', ({ name, file, details }) => {
    if (details.type === 'suite') return;
    const { cause } = details.error;
    const [reason] = String(cause?.message ?? cause ?? details.error.message).split('\n');
    fail(`${basename(file ?? '')}: ${name}: ${reason}`);
  });
  for await (const text of events.compose(new spec())) process.stdout.write(text);

  if (files.length === 0) tally.failures.push('no test files');
  for (const failure of tally.failures) console.log(`failed: ${failure}`);
  if (tally.failed > 0 || tally.passed === 0) process.exitCode = 1;
  return tally;
}
