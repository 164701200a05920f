import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { sleepAwareClock } from '../src/clock';

function clocks(): { now: () => number; pass(wall: number, steady: number): void } {
  let wall = 1_800_000_000_000;
  let steady = 50;
  const now = sleepAwareClock({ Date: { now: () => wall }, performance: { now: () => steady, getEntriesByType: () => [] } });
  return {
    now,
    pass(wallTime, steadyTime) {
      wall += wallTime;
      steady += steadyTime;
    },
  };
}

test('without sleep, the time is that of the steady clock', () => {
  const { now, pass } = clocks();
  const start = now();
  pass(100, 100);
  assert.equal(now() - start, 100);
});

test('sleep is counted if the steady clock stood still', () => {
  const { now, pass } = clocks();
  const start = now();
  pass(60_000, 10);
  assert.equal(now() - start, 60_000);
  pass(60_000, 10);
  assert.equal(now() - start, 120_000);
});

test('sleep that the steady clock counted is not counted twice', () => {
  const { now, pass } = clocks();
  const start = now();
  pass(60_000, 60_000);
  assert.equal(now() - start, 60_000);
});

test('setting the wall clock back changes nothing and does not hide later sleep', () => {
  const { now, pass } = clocks();
  const start = now();
  pass(-3_600_000, 10);
  assert.equal(now() - start, 10);
  pass(60_000, 0);
  assert.equal(now() - start, 60_010);
});

test('the rounding of the wall clock does not add up', () => {
  const { now, pass } = clocks();
  const start = now();
  for (let round = 0; round < 1000; round++) {
    pass(round % 2, 0.5);
    now();
  }
  assert.equal(now() - start, 500);
});
