// A session that is replaced by another: nothing of the old one is carried over.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { AppSession } from '../../src/app/app_session';
import { decodeUnit } from '../../src/app/unit';
import { Type } from '../../src/wire';
import { ticketOf } from '../fake_server';
import { Fixture, pageOf } from '../renewal_fixture';
import { EVERY_PIECE } from './every_piece';

test('with a new session, calls end and observables begin anew', async () => {
  const fixture = await Fixture.connected(pageOf(ticketOf('own')));
  const app = new AppSession(fixture.session, {}, fixture.page, EVERY_PIECE);
  const count = app.observable('count', 0);
  count.set(5);
  const states: string[] = [];
  app.onstatus = ({ outcome }) => void states.push(`${outcome} ${count.value}`);
  const over = assert.rejects(app.call('save'), { code: 'over' });
  fixture.answers.push(pageOf(ticketOf('new')));
  fixture.page.socket.lose();
  await fixture.settle();
  await fixture.page.browser.advance(1000);
  await fixture.refuse();
  fixture.accept();
  await fixture.settle();
  await over;
  assert.equal(states.at(-1), 'renewed 0');
  count.set(1);
  const set = fixture.page.socket.read().find((frame) => frame[0] === Type.Data)!;
  assert.equal(decodeUnit(set.subarray(2)).number, 1);
  assert.ok(app.bufferedAmount() > 0);
});
