// Runs the given test files and sends the counts to run.mjs, which starts this script with the
// environment of one framework.

import { runTests } from '../../core/client/run-tests.mjs';

const timeout = process.env.STILLHERE_LONG ? 1_200_000 : 300_000;
process.send(await runTests(process.argv.slice(2), { concurrency: 1, timeout }));
