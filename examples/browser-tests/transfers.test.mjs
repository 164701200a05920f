// Transfers of 20 MB on the bulk lane, with clicks and both streams on the same socket.

import assert from 'node:assert/strict';

import { assertCountersClean, browserTest, median, openDemo, stateOf } from './support.mjs';

const BYTES = 20_000_000;

for (const direction of ['upload', 'download']) {
  browserTest(`a 20 MB ${direction} arrives right and clicks pass it`, async (stage) => {
    const demo = await stage.startDemo();
    const page = await openDemo(await stage.openChromium(), demo.url);

    const { result, clicks, overtaken } = await transfer(page, direction);

    assert.deepEqual({ ok: result.ok, bytes: result.bytes, overtaken }, { ok: true, bytes: BYTES, overtaken: 0 });
    // Without a lane of its own, a click would wait for half of the transfer on average.
    assert.ok(median(clicks) < result.milliseconds / 4, `clicks took ${clicks} ms`);
    await assertCountersClean(page);
    const seconds = (result.milliseconds / 1000).toFixed(1);
    stage.report(`20 MB ${direction}: ${seconds} s, ${clicks.length} clicks: median ${median(clicks).toFixed(0)} ms, maximum ${Math.max(...clicks).toFixed(0)} ms`);
  });

  browserTest(`a 20 MB ${direction} survives plug pulls in the middle of it`, async (stage) => {
    const demo = await stage.startDemo();
    const page = await openDemo(await stage.openChromium(), demo.url);

    const { result, overtaken, pulledAt } = await transfer(page, direction, [0.2, 0.6]);

    assert.deepEqual({ ok: result.ok, bytes: result.bytes, overtaken }, { ok: true, bytes: BYTES, overtaken: 0 });
    assert.ok(pulledAt.every((fraction) => fraction > 0 && fraction < 1), `pulled at ${pulledAt}`);
    assert.deepEqual((await stateOf(page)).outcomes, ['opened', 'resumed', 'resumed']);
    await assertCountersClean(page);
  });
}

/**
 * Runs the transfer as the button does, with ten clicks a second and cuts at these fractions of it.
 * Returns the milliseconds of each click, how many clicks a later one overtook, and where the
 * connection was cut.
 */
function transfer(page, direction, pullsAt = []) {
  return page.evaluate(async ([direction, pullsAt]) => {
    const progress = document.getElementById('transfer');
    const clicks = [];
    const pulledAt = [];
    const answers = [];
    let newest = 0;
    let overtaken = 0;
    const click = async (number) => {
      clicks.push(await demo.click());
      if (number < newest) overtaken += 1;
      newest = Math.max(newest, number);
    };
    const clicking = setInterval(() => answers.push(click(answers.length)), 100);
    const pulling = setInterval(() => {
      if (progress.value < pullsAt[0] || pullsAt.length === 0 || demo.status.state !== 'connected') return;
      pullsAt.shift();
      answers.push(demo.fault('reset').then(() => pulledAt.push(progress.value)));
    }, 5);
    const result = await demo[direction]();
    clearInterval(clicking);
    clearInterval(pulling);
    await Promise.all(answers);
    return { result, clicks, overtaken, pulledAt };
  }, [direction, pullsAt]);
}
