// Runs the test files it is given, for run.mjs, which starts it with one framework's environment
// and is sent the counts.

import { runTests } from '../../core/client/run-tests.mjs';

const timeout = process.env.STILLHERE_LONG ? 1_200_000 : 300_000;
process.send(await runTests(process.argv.slice(2), { concurrency: 1, timeout }));
