// Runs the given test files one after another, and sends the counts to run.mjs, which starts this
// script with the environment of one framework.

import { runTests } from '../../core/client/run-tests.mjs';

const timeout = process.env.STILLHERE_LONG ? 1_200_000 : 300_000;
const sum = { passed: 0, failed: 0, failures: [], failedFiles: [] };
for (const file of process.argv.slice(2)) {
  const { passed, failed, failures } = await runTests([file], { concurrency: 1, timeout });
  sum.passed += passed;
  sum.failed += failed;
  sum.failures.push(...failures);
  if (failed > 0) sum.failedFiles.push(file);
}
process.send(sum);
