// The layer above bytes: values, calls, streams and observables, and what a reload finds.

import assert from 'node:assert/strict';

import { until } from '../support.mjs';
import { engineTest } from './engine.mjs';

engineTest('values, calls, streams and observables are exact, and a reload finds every value', async (stage, engine) => {
  const demo = await stage.startDemo();
  const tab = await engine.open(`${demo.url}/layer`);
  await untilReady(tab);
  assert.deepEqual(await tab.evaluate(useEverything), {
    arrays: 'Float32Array 0.5,-Infinity, BigInt64Array -9223372036854775808, Uint8Array ',
    integers: 'bigint 18446744073709551615, bigint -9223372036854775808, number 7',
    extremes: 'bigint -9223372036854775808, bigint 9223372036854775807, bigint 18446744073709551615, bigint 9007199254740992, number -0.5',
    echo: { text: 'größer 🌱', list: [1, null, {}] },
    asked: { answer: 42 },
    failure: 'CallError rejected not today',
    items: 50,
  });

  await tab.reload();
  await untilReady(tab);
  await until(tab, () => window.layer.log.some(([name]) => name === 'restored'));
  const { outcome, log } = await tab.evaluate(() => ({ outcome: window.layer.session.status.outcome, log: window.layer.log.filter(([, value]) => value !== 0) }));
  assert.equal(outcome, 'restored');
  assert.deepEqual([log.slice(0, 2).sort(), log[2][0]], [[['dial', 9], ['level', 5]], 'restored']);
});

const untilReady = (tab) => until(tab, () => window.layer?.session.status.state === 'connected');

/** Runs in the page. */
async function useEverything() {
  const { session } = window.layer;
  const described = (values, name) => values.map((value) => `${name(value)} ${value}`).join(', ');
  const arrays = [new Float32Array([0.5, -Infinity]), new BigInt64Array([-(2n ** 63n)]), new Uint8Array()];
  const names = ['f32[]', 'i64[]', 'u8[]'];
  const echo = new Promise((resolve) => {
    session.onjson = resolve;
  });
  session.sendJson({ text: 'größer 🌱', list: [1, null, {}] });
  let items = 0;
  for await (const item of session.stream('numbers', 50)) items = item;
  await session.call('raise', 5);
  session.observable('dial', 0).set(9);
  while ((await session.call('turned'))[0] !== 9);
  return {
    arrays: described(await Promise.all(arrays.map((array, at) => session.call(names[at], array))), ({ constructor }) => constructor.name),
    integers: described([await session.call('u64', 2n ** 64n - 1n), await session.call('i64', -(2n ** 63n)), await session.call('i64', 7)], (value) => typeof value),
    extremes: described(await session.call('extremes'), (value) => typeof value),
    echo: await echo,
    asked: await session.call('ask', { name: 'double', question: 21 }),
    failure: await session.call('rejects').catch(({ name, code, message }) => `${name} ${code} ${message}`),
    items,
  };
}
