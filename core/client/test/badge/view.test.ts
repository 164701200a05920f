// What the badge shows, state by state.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ENGLISH, viewOf } from '../../src/badge/view';
import { CONNECTING, type Status } from '../../src/status';

const WALL = 1_800_000_000_000;
const view = (status: Partial<Status>, since = WALL - 10_000): ReturnType<typeof viewOf> => viewOf({ ...CONNECTING, ...status }, since, WALL, ENGLISH);

test('nothing is shown while connected, and for a short drop', () => {
  assert.equal(view({ state: 'connected' }), null);
  assert.equal(view({ state: 'reconnecting' }, WALL - 499), null);
  assert.equal(view({ state: 'reconnecting' }, WALL - 500)?.text, ENGLISH.reconnecting);
  assert.equal(view({ state: 'connecting' }, WALL - 499), null);
});

test('a long wait is counted down and can be cut short', () => {
  const { detail, action } = view({ state: 'reconnecting', retryAt: WALL + 2_400 })!;
  assert.deepEqual([detail, action], ['Next attempt in 3 s.', 'retry']);
  const soon = view({ state: 'reconnecting', retryAt: WALL + 900 })!;
  assert.deepEqual([soon.detail, soon.action], ['', null]);
});

test('an obstacle is named', () => {
  const obstacle = { kind: 'refused', status: 403, text: 'a firewall' } as const;
  assert.equal(view({ state: 'connecting', obstacle, retryAt: WALL + 5000 })?.detail, 'a firewall Next attempt in 5 s.');
});

test('each state has its text', () => {
  const texts = [
    view({ state: 'connecting' }), view({ state: 'paused' }), view({ state: 'connecting', reason: 'Full', retryAt: WALL + 7000 }),
    view({ state: 'ended', reason: 'Expired' }), view({ state: 'refused', reason: 'Superseded' }), view({ state: 'refused', reason: 'Full', retryAt: WALL + 7000 }),
  ].map((shown) => [shown!.text, shown!.action]);
  const { connecting, paused, full, ended, elsewhere } = ENGLISH;
  assert.deepEqual(texts, [[connecting, null], [paused, 'retry'], [full, 'retry'], [ended, 'reload'], [elsewhere, 'reload'], [full, null]]);
});

test('who loses a session learns that the input is still there, at once', () => {
  assert.match(view({ state: 'ended', reason: 'Expired' }, WALL)!.detail, /still here/);
  assert.match(view({ state: 'refused', reason: 'NoTicket', text: 'a login is needed' }, WALL)!.detail, /^a login is needed .*still here/);
});

test('a page that closed its session, or never had a server, shows nothing', () => {
  assert.equal(view({ state: 'ended', reason: 'Closed' }), null);
  assert.equal(view({ state: 'refused', reason: 'NoServer' }), null);
});
