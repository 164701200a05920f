// The built layer: its size, and that it shares the client with its page, or contains it.

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';

import * as source from '../../src/app/index';
import * as wholeSource from '../../src/app/module';
import * as slimSource from '../../src/app/slim';
import { connect, type Options, type Ticket } from '../../src/index';
import * as slimClient from '../../src/slim';
import { type Layer, layerLife } from './layer_life';

/** Maximum sizes in bytes, gzipped. Lower them when the files shrink. */
const BUDGETS = {
  'app.mjs.gz': 8_466,
  'slim-app.mjs.gz': 14_699,
  'stillhere-app.js.gz': 21_368,
  'stillhere-app.mjs.gz': 21_040,
};

const DIST = new URL('../dist/', import.meta.url);
const built = (await import(new URL('app.mjs', DIST).href)) as typeof source;
const whole = (await import(new URL('stillhere-app.mjs', DIST).href)) as typeof wholeSource;

test('the built layer exports what the sources do, and imports the client', () => {
  assert.deepEqual(Object.keys(built), Object.keys(source));
  assert.match(readFileSync(new URL('app.mjs', DIST), 'utf8'), /from"\.\/stillhere\.mjs"/);
});

test('the file of the server exports the rest of the client too, and imports nothing', () => {
  assert.deepEqual(Object.keys(whole), Object.keys(wholeSource));
  assert.doesNotMatch(readFileSync(new URL('stillhere-app.mjs', DIST), 'utf8'), /\bimport\b|\bfrom"/);
});

const slim = (await import(new URL('slim-app.mjs', DIST).href)) as typeof slimSource;

test('the slim client with the layer exports both, and imports nothing', () => {
  assert.deepEqual(Object.keys(slim), Object.keys(slimSource));
  assert.ok(Object.keys(slimClient).every((name) => name in slim));
  assert.doesNotMatch(readFileSync(new URL('slim-app.mjs', DIST), 'utf8'), /\bimport\b|\bfrom"/);
});

const expected = await layerLife(source);

test('the life of a session has everything that the layer sends and receives', () => assert.ok(expected.length > 80, `${expected.length}`));

for (const [name, layer] of Object.entries({ built, whole })) {
  test(`a built layer does what its sources do: ${name}`, async () => assert.deepEqual(await layerLife(layer as Layer), expected));
}

test('a built layer does what its sources do: slim', async () => {
  // The sources of the slim client do not run before the build has left the rest out.
  const { streams, handlers, observables, rooms, arrays, pageErrors } = source;
  const attach = (session: source.AppSession['raw'], options: source.AppOptions = {}): unknown =>
    source.attachOnly(session, [streams, handlers, observables, rooms, arrays, pageErrors], options);
  const withoutMessagePack = {
    ...source,
    attach,
    connect: (ticket: Ticket, { outbox, ...options }: source.ConnectOptions) => attach(connect(ticket, { outbox } as Options), options),
  };
  const life = await layerLife(withoutMessagePack as unknown as Layer);
  assert.deepEqual(await layerLife(slim as Layer), life);
  const errors = life.filter((seen) => Array.isArray(seen) && seen[1] === 'MissingPiece');
  assert.equal(errors.length, 1, 'the value in MessagePack is an error');
});

test('the built layer is as small as it was', () => {
  for (const [file, budget] of Object.entries(BUDGETS)) {
    const { size } = statSync(new URL(file, DIST));
    assert.ok(size <= budget, `${file}: ${size} bytes`);
  }
});
