// The layer above bytes from end to end: the page's half in Chromium, the server's in Rust.

import assert from 'node:assert/strict';

import { closeLid, openLid, startNetwork } from './network.mjs';
import { browserTest, eventually, openTab, repetitions, until } from './support.mjs';

const CUTS = repetitions(50);

/** Opens the page of the layer, and waits until it has its session. */
async function openLayer(context, url) {
  const page = await openTab(context, `${url}/layer`);
  await untilReady(page);
  return page;
}

const untilReady = (page) => until(page, () => window.layer?.session.status.state === 'connected');
const call = (page, name, query) => page.evaluate(([name, query]) => layer.session.call(name, query), [name, query]);
/** Returns the code and the text with which this function of the page rejects. */
const failureOf = (page, run, argument) => page.evaluate(`(${run})(${JSON.stringify(argument)}).then((answer) => ({ answer }), ({ name, code, message }) => ({ name, code, message }))`);
/** Waits until the log has an entry of this name, and returns its value. */
const logged = (page, name) => until(page, (name) => layer.log.find(([logged]) => logged === name)?.slice(1), name).then(([value]) => value);

browserTest('values of every kind arrive as they were sent', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openLayer(await stage.openChromium(), demo.url);

  const value = { text: 'größer 🌱', list: [1, -0.5, null, true, []], nested: { deep: [{}] } };
  await page.evaluate((value) => {
    layer.session.sendJson(value);
    layer.session.send('text, not a value 🌱');
    layer.session.send(new Uint8Array([0, 255, 1]));
    layer.session.emit('moved', { x: 0.1 });
  }, value);
  assert.deepEqual(await logged(page, 'json'), value);
  assert.equal(await logged(page, 'text'), 'text, not a value 🌱');
  assert.deepEqual(await until(page, () => [...(layer.log.find(([name]) => name === 'bytes')?.[1] ?? [])].join()), '0,255,1');
  assert.deepEqual(await logged(page, 'moved'), { x: 0.1 });

  const arrays = await page.evaluate(async () => {
    const f32 = Math.fround(0.1);
    const samples = {
      'u8[]': new Uint8Array([0, 255]), 'i8[]': new Int8Array([-128, 127]),
      'u16[]': new Uint16Array([0, 65535]), 'i16[]': new Int16Array([-32768, 32767]),
      'u32[]': new Uint32Array([0, 2 ** 32 - 1]), 'i32[]': new Int32Array([-(2 ** 31), 2 ** 31 - 1]),
      'u64[]': new BigUint64Array([0n, 2n ** 64n - 1n]), 'i64[]': new BigInt64Array([-(2n ** 63n), 2n ** 63n - 1n]),
      'f32[]': new Float32Array([f32, -Infinity, NaN]), 'f64[]': new Float64Array([0.1, Number.MAX_VALUE, NaN]),
    };
    const wrong = [];
    for (const [name, sample] of Object.entries(samples)) {
      // Also empty, and with an offset that is no multiple of the elements' size.
      for (const sent of [sample, sample.subarray(0, 0), sample.subarray(1)]) {
        const answer = await layer.session.call(name, sent);
        if (answer.constructor !== sample.constructor || String(answer) !== String(sent)) wrong.push([name, String(sent), String(answer)]);
      }
    }
    const many = new Float32Array(200_000).map((_, at) => at);
    const answer = await layer.session.call('f32[]', many);
    if (answer.length !== many.length || answer.some((number, at) => number !== at)) wrong.push('many');
    return wrong;
  });
  assert.deepEqual(arrays, []);

  const integers = await page.evaluate(async () => {
    const { session } = layer;
    const sent = [['i64', -(2n ** 63n)], ['i64', 2n ** 63n - 1n], ['u64', 2n ** 64n - 1n], ['u64', 2n ** 53n], ['i64', -1]];
    const answers = [...(await Promise.all(sent.map(([name, number]) => session.call(name, number)))), ...(await session.call('extremes'))];
    return answers.map((answer) => `${typeof answer} ${answer}`);
  });
  assert.deepEqual(integers, [
    'bigint -9223372036854775808', 'bigint 9223372036854775807', 'bigint 18446744073709551615', 'bigint 9007199254740992', 'number -1',
    'bigint -9223372036854775808', 'bigint 9223372036854775807', 'bigint 18446744073709551615', 'bigint 9007199254740992', 'number -0.5',
  ]);
});

browserTest('every failure of a call has its name, in both directions, and none ends the session', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openLayer(await stage.openChromium(), demo.url);

  const failing = {
    rejects: ['rejected', /^not today$/],
    fails: ['failed', /key must be a string/],
    nowhere: ['missing', /missing/],
    i64: ['undecodable', /invalid type/],
    numbers: ['streamed', /streamed/],
    deep: ['answer-undecodable', /nested more than 127 levels/],
  };
  for (const [name, [code, text]] of Object.entries(failing)) {
    const failure = await failureOf(page, (name) => layer.session.call(name, name === 'i64' ? 'text' : name === 'numbers' ? 1 : null), name);
    assert.deepEqual([failure.name, failure.code], ['CallError', code], name);
    assert.match(failure.message, text);
  }
  assert.equal((await failureOf(page, () => layer.session.call('waits', null, { timeout: 50 }))).code, 'timed-out');
  assert.equal((await failureOf(page, () => layer.session.call('waits', null, { signal: AbortSignal.timeout(50) }))).code, 'cancelled');
  await eventually('the cancelled handlers are dropped', async () => (await call(page, 'waiting')) === 0);
  // 16 run and 8 wait.
  const codes = await page.evaluate(async () => {
    const controller = new AbortController();
    const calls = Array.from({ length: 26 }, () => layer.session.call('waits', null, { signal: controller.signal }));
    await Promise.allSettled(calls.slice(24));
    controller.abort();
    return (await Promise.allSettled(calls)).map(({ reason }) => reason.code);
  });
  assert.deepEqual(codes, [...Array(24).fill('cancelled'), 'busy', 'busy']);

  const asked = {
    double: [{ answer: 42 }, undefined],
    rejects: ['Rejected("not today")', /rejected the call: not today/],
    fails: ['Failed("the page\'s handler broke")', /failed: the page's handler broke/],
    nowhere: ['Missing', /no handler/],
    waits: ['TimedOut', /in time/],
  };
  for (const [name, [expected, text]] of Object.entries(asked)) {
    const outcome = await call(page, 'ask', { name, question: 21, ...(name === 'waits' ? { timeout: 50 } : {}) });
    if (!text) assert.deepEqual(outcome, expected);
    else assert.equal(outcome.error, expected), assert.match(outcome.text, text);
  }
  const deep = await call(page, 'ask-deep');
  assert.match(deep.error, /^UndecodableQuestion/);
  assert.match(deep.text, /nested more than 127 levels/);
  assert.match((await call(page, 'ask-number', { name: 'double', question: 'text' })).error, /^UndecodableAnswer/);
  await until(page, () => layer.aborted === 1);

  // What waits when the session ends fails, and so does what is called afterwards.
  const over = await page.evaluate(async () => {
    const waiting = [layer.session.call('waits'), layer.session.stream('numbers', 1000).next().then(() => new Promise(() => {}))];
    layer.session.emit('close', 'enough');
    const first = await waiting[0].catch(({ code }) => code);
    return [first, await layer.session.call('next').catch(({ code }) => code), layer.session.status.reason];
  });
  assert.deepEqual(over.slice(0, 2), ['over', 'over']);
});

browserTest('calls over cuts are executed once each, in both directions', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openLayer(await stage.openChromium(), demo.url);
  const id = await page.evaluate(() => layer.session.id);
  await page.evaluate(() => {
    Object.assign(layer, { answers: [], asked: [], isOver: false });
    const repeat = async (once) => {
      while (!layer.isOver) await once();
    };
    layer.calling = Promise.all([
      repeat(async () => layer.answers.push(await layer.session.call('next'))),
      repeat(async () => layer.asked.push(...(await layer.session.call('ask-often', { name: 'next', times: 10 })))),
    ]);
  });
  for (let cuts = 1; cuts <= CUTS; cuts += 1) {
    const before = await page.evaluate(() => [layer.answers.length, layer.executed]);
    await until(page, ([answered, executed]) => layer.answers.length > answered && layer.executed > executed, before);
    assert.equal(await demo.fault(id, 'reset'), 204);
    await until(page, (cuts) => layer.outcomes.length > cuts, cuts);
  }
  const { asked, answers, executed, outcomes } = await page.evaluate(async () => {
    layer.isOver = true;
    await layer.calling;
    const { asked, answers, executed, outcomes } = layer;
    return { asked, answers, executed, outcomes };
  });
  const upTo = (count) => Array.from({ length: count }, (_, at) => at + 1);
  assert.deepEqual(answers, upTo(answers.length));
  assert.deepEqual(asked, upTo(executed));
  assert.deepEqual(outcomes, ['opened', ...Array(CUTS).fill('resumed')]);
  stage.report(`${CUTS} cuts: ${answers.length} calls of the page and ${executed} of the server, each executed once`);
});

browserTest('a streamed answer comes at the pace of the page, over a cut, and ends where the page leaves it', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openLayer(await stage.openChromium(), demo.url);
  const id = await page.evaluate(() => layer.session.id);

  await page.evaluate(async () => {
    layer.stream = layer.session.stream('numbers', 100_000);
    layer.first = await layer.stream.next();
  });
  assert.deepEqual(await page.evaluate(() => layer.first), { value: 1, done: false });
  await eventually('the server has sent what the page allows', async () => (await call(page, 'streams'))[1] === 16);
  assert.deepEqual(await call(page, 'streams'), [1, 16]);
  const taken = page.evaluate(async () => {
    const taken = [];
    for await (const number of layer.stream) {
      taken.push(number);
      if (number === 5_000) break;
    }
    return taken;
  });
  await until(page, () => layer.session.status.state === 'connected');
  await demo.fault(id, 'reset');
  assert.deepEqual(await taken, Array.from({ length: 4_999 }, (_, at) => at + 2));
  await eventually('the server has stopped', async () => (await call(page, 'streams'))[0] === 0);
  const [, sent] = await call(page, 'streams');
  assert.ok(sent >= 5_000 && sent <= 5_016, `${sent}`);

  const ends = await page.evaluate(async () => {
    const whole = layer.session.stream('numbers', 20);
    let count = 0;
    let result = await whole.next();
    for (; !result.done; result = await whole.next()) count += 1;
    let before = 0;
    try {
      for await (const number of layer.session.stream('numbers', 13)) before = number;
    } catch (error) {
      return [count, result.value, before, error.code, error.message];
    }
  });
  assert.deepEqual(ends, [20, 'done', 13, 'rejected', '13 is too many']);
});

browserTest('the page streams at the pace of the server, over cuts, and stops where the server leaves it', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openLayer(await stage.openChromium(), demo.url);
  const id = await page.evaluate(() => layer.session.id);

  await page.evaluate(() => {
    layer.counted = 0;
    layer.taking = layer.session.call('take', { to: 1e9, most: 1e9 });
  });
  for (let cuts = 1; cuts <= 3; cuts += 1) {
    const before = await page.evaluate(() => layer.counted);
    await until(page, (before) => layer.counted > before, before);
    assert.equal(await demo.fault(id, 'reset'), 204);
    await until(page, (cuts) => layer.outcomes.length > cuts, cuts);
  }
  const last = await page.evaluate(() => (layer.to = layer.counted + 1_000));
  assert.deepEqual(await page.evaluate(() => layer.taking), [last, { answer: 'done' }]);

  await page.evaluate(() => void (layer.leftAt = 0));
  assert.deepEqual(await call(page, 'take', { to: 1e9, most: 1_000 }), [1_000, null]);
  await until(page, () => layer.leftAt > 0);
  const leftAt = await page.evaluate(() => layer.leftAt);
  assert.ok(leftAt >= 1_000 && leftAt <= 1_016, `${leftAt}`);

  assert.deepEqual(await call(page, 'take', { to: 20, most: 100 }), [20, { answer: 'done' }]);
  const [taken, error] = await call(page, 'take', { to: 13, most: 100 });
  assert.equal(taken, 13);
  assert.match(error, /13 is too many/);
  assert.equal(await call(page, 'next'), 1);
});

browserTest('after a gap each side has the newest value, and a reloaded page has every value first', async (stage) => {
  const demo = await stage.startDemo();
  const [network, url] = await startNetwork(stage, demo);
  const page = await openLayer(await stage.openChromium(), url);

  // The page is away: both sides set a thousand times.
  await page.evaluate(() => layer.session.emit('raise-while-away'));
  assert.equal(await call(page, 'raise', 1), 1);
  await until(page, () => layer.session.observable('level', 0).value === 1);
  await page.evaluate(() => void (layer.log.length = 0));
  await closeLid(network, page);
  await page.evaluate(() => {
    for (let value = 1; value <= 1_000; value += 1) layer.session.observable('dial', 0).set(value);
  });
  await openLid(network, page);
  await until(page, () => layer.session.observable('level', 0).value === 1_001);
  assert.deepEqual(await page.evaluate(() => layer.log.filter(([name]) => name === 'level')), [['level', 1_001]]);
  await eventually('the server has the newest value', async () => (await call(page, 'turned'))[0] === 1_000);
  assert.deepEqual(await call(page, 'turned'), [1_000, [1_000]]);

  // A call to this document fails when the next one takes over.
  await page.evaluate(() => layer.session.emit('ask-later', { name: 'waits' }));
  await page.reload();
  await untilReady(page);
  await logged(page, 'restored');
  const log = await page.evaluate(() => layer.log.filter(([, value]) => value !== 0));
  assert.deepEqual(log.slice(0, 2).sort(), [['dial', 1_000], ['level', 1_001]]);
  assert.deepEqual(log.slice(2), [['restored', 'the event follows the values']]);
  assert.deepEqual(await page.evaluate(() => layer.outcomes), ['restored']);
  assert.match(await eventually('the call has failed', () => call(page, 'asked')), /"Replaced"/);
  // The new document's sets count from 1 again.
  await page.evaluate(() => layer.session.observable('dial', 0).set(7));
  await eventually('the server has the new value', async () => (await call(page, 'turned'))[0] === 7);
  assert.equal(await call(page, 'raise', 1), 1_002);
  await until(page, () => document.getElementById('level').textContent === '1002');
});

browserTest('after a restart of the server, the page has a new session with new values, and what waited is over', async (stage) => {
  const demo = await stage.startDemo();
  const page = await openLayer(await stage.openChromium(), demo.url);
  assert.equal(await call(page, 'raise', 5), 5);
  await until(page, () => layer.session.observable('level', 0).value === 5);
  await page.evaluate(() => {
    const codeOf = (promise) => promise.then(() => 'answered', ({ code }) => code);
    const readAll = async () => {
      for await (const number of layer.session.stream('numbers', 1e9)) if (number % 100 === 0) await new Promise((resolve) => void setTimeout(resolve));
    };
    layer.waiting = Promise.all([codeOf(layer.session.call('waits')), codeOf(readAll())]);
  });
  await demo.kill();
  await stage.startDemo(demo.port);
  await until(page, () => layer.session.status.outcome === 'renewed');
  assert.deepEqual(await page.evaluate(() => layer.waiting), ['over', 'over']);
  assert.equal(await page.evaluate(() => layer.session.observable('level', 0).value), 0);
  assert.equal(await call(page, 'next'), 1);
  assert.deepEqual(await call(page, 'ask', { name: 'double', question: 4 }), { answer: 8 });
  assert.equal(await call(page, 'raise', 2), 2);
  await until(page, () => layer.session.observable('level', 0).value === 2);
  await page.evaluate(() => layer.session.observable('dial', 0).set(9));
  await eventually('the server has the value', async () => (await call(page, 'turned'))[0] === 9);
});

browserTest('errors of the page reach the server, and its module works without the script tag', async (stage) => {
  const demo = await stage.startDemo();
  const context = await stage.openChromium();
  const page = await openLayer(context, demo.url);
  const troubles = [];
  const untilTroubled = (text) => eventually(`the server knows of ${text}`, async () => {
    troubles.push(...(await call(page, 'troubles')));
    return troubles.some((trouble) => trouble.includes(text));
  });
  await page.evaluate(() => void setTimeout(() => { throw new Error('uncaught <b>'); }));
  await untilTroubled('uncaught <b>');
  await page.evaluate(() => void Promise.reject(new TypeError('unhandled')));
  await untilTroubled('unhandled');
  await call(page, 'ask', { name: 'fails' });
  await untilTroubled("the page's handler broke");
  assert.equal(await call(page, 'next'), 1);

  const answer = await page.evaluate(async () => {
    const { attach, connect, CallError, OutboxFull } = await import('/stillhere/app.mjs');
    const html = await (await fetch('/layer')).text();
    const script = new DOMParser().parseFromString(html, 'text/html').querySelector('[data-stillhere]');
    const session = connect({ ...JSON.parse(script.dataset.stillhere), restore: undefined }, { codec: 'messagepack' });
    const code = await session.call('rejects').catch((error) => [error instanceof CallError, error.code]);
    const integers = await Promise.all([2n ** 64n - 1n, 7].map((number) => session.call('u64', number)));
    const first = [await session.call('next'), attach(session.raw) === session, typeof OutboxFull];
    session.close();
    return [...first, ...code, ...integers.map(String)];
  });
  assert.deepEqual(answer, [1, true, 'function', true, 'rejected', '18446744073709551615', '7']);
  assert.equal(await page.evaluate(() => customElements.get('stillhere-badge') && document.querySelector('stillhere-badge').session === layer.session), true);
});
