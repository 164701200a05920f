import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { Code, Reason } from '../src/codes';
import { nameOfCode, nameOfReason } from '../src/names';

test('every code has its name and no other number has one', () => {
  for (let code = 0; code < 5000; code++) assert.equal(nameOfCode(code), Code[code] ?? '', `${code}`);
});

test('every reason has its name and no other number has one', () => {
  for (let reason = 1; reason < 100; reason++) assert.equal(nameOfReason(reason), Reason[reason] ?? '', `${reason}`);
  assert.equal(nameOfReason(Reason.None), '');
});
