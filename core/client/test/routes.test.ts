// In every kind of network, the page connects over the best kind that works, or learns why none
// does.

import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import { FakePage, FakeStorage } from './fake_page';
import { accept, ticketOf } from './fake_server';
import { type Answers, Box, type Streams, type Ways, type WebSockets } from './model_box';

const WEB_SOCKETS: readonly WebSockets[] = ['work', 'are refused', 'hang', 'open and carry nothing', 'die after 2000 bytes', 'die after 2 s'];
const STREAMS: readonly Streams[] = ['work', 'are held back', 'are cut short'];
const POSTS: readonly Answers[] = ['work', '413', '429', '503', 'redirect', 'portal'];
const OBSTACLES: Record<Answers, unknown[] | undefined> = {
  work: undefined,
  403: ['refused', 403],
  413: ['too-large', 413],
  429: ['refused', 429],
  503: ['refused', 503],
  redirect: ['redirected', 0],
  portal: ['foreign', 200],
};
const SOON = 15_000;

/** The best kind that lasts; none if the session is there for moments only, or not at all. */
function bestOf({ webSockets, streams, posts }: Ways): string | undefined {
  if (webSockets === 'work') return 'websocket';
  if (posts !== 'work') return;
  return streams === 'work' ? 'streamed' : 'polled';
}

function open(ways: Ways, storage = new FakeStorage()): { page: FakePage; box: Box; session: Session } {
  const page = new FakePage({ storage });
  const box = new Box(page, ways);
  return { page, box, session: new Session(ticketOf('mine'), {}, page, EVERY_FEATURE) };
}

for (const webSockets of WEB_SOCKETS) {
  for (const streams of STREAMS) {
    for (const posts of POSTS) {
      const ways = { webSockets, streams, posts };
      const best = bestOf(ways);
      const isThere = best !== undefined || webSockets.startsWith('die');
      const expected = best ?? (isThere ? 'a WebSocket for as long as it lasts' : `told ${OBSTACLES[posts]!.join(' ')}`);
      test(`WebSockets ${webSockets}, streams ${streams}, POSTs: ${posts} -> ${expected}`, async () => {
        const { page, box, session } = open(ways);
        await box.advance(SOON);
        const { obstacle, outcome } = session.status;
        if (!isThere) assert.deepEqual([outcome, obstacle?.kind, obstacle?.status], [null, ...OBSTACLES[posts]!]);
        else assert.ok(outcome, `connected within ${SOON} ms`);

        if (best === 'websocket') return assert.equal(session.connection, best);
        // The page settles on a kind. It retries unstable kinds less and less often.
        const attempts = (): number => page.sockets.length + box.posts.filter(({ operation }) => operation === 1).length;
        await box.advance(webSockets.startsWith('die') ? 40_000 : 20_000);
        const before = attempts();
        let connected = 0;
        let steps = 0;
        await box.advance(20_000, () => {
          steps += 1;
          connected += Number(session.status.state === 'connected');
        });
        if (best) {
          assert.equal(session.connection, best);
          assert.ok(connected > steps * 0.97, `connected ${connected} of ${steps} steps`);
        } else if (isThere) assert.ok(connected > steps * 0.5, `connected ${connected} of ${steps} steps`);
        else assert.deepEqual([connected, session.status.obstacle?.kind, session.status.obstacle?.status], [0, ...OBSTACLES[posts]!]);
        const tried = attempts() - before;
        assert.ok(tried < 20 * (best ? 0.3 : 1.5), `${tried} attempts in 20 s`);
        assert.ok(page.errors.length <= 1, page.errors.join());
      });
    }
  }
}

test('a stream that is held back until a short heartbeat ends it does not count as connected', async () => {
  const { box, session } = open({ webSockets: 'are refused', streams: 'are held back', posts: 'work' });
  box.heartbeat = 800;
  let losses = 0;
  session.onstatus = ({ state, outcome }) => void (losses += Number(state === 'reconnecting' && outcome !== null));
  await box.advance(SOON);
  assert.deepEqual([session.status.state, session.connection, losses], ['connected', 'polled', 1]);
});

test('on a slow network attempts get more time once all routes were silent', async () => {
  const page = new FakePage();
  const session = new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  const heard = new Set<unknown>();
  for (let step = 0; step < 400; step += 1) {
    await page.browser.advance(100);
    // Every attempt is answered after seven seconds.
    for (const socket of page.sockets.filter((socket) => !heard.has(socket) && socket.closedWith === undefined)) {
      heard.add(socket);
      page.setTimeout(() => socket.closedWith === undefined && accept(socket), 7000);
    }
  }
  assert.deepEqual([session.status.state, page.sockets.length], ['connected', 2]);
});

test('the tab remembers the route that worked, and moves to a better one that works later', async () => {
  const storage = new FakeStorage();
  const first = open({ webSockets: 'hang', streams: 'are held back', posts: 'work' }, storage);
  await first.box.advance(SOON);
  assert.equal(first.session.connection, 'polled');

  const second = open({ webSockets: 'hang', streams: 'are held back', posts: 'work' }, storage);
  await second.box.advance(1000);
  assert.deepEqual([second.session.status.state, second.session.connection], ['connected', 'polled'], 'at once');
  await second.box.advance(20_000);
  second.box.ways = { webSockets: 'hang', streams: 'work', posts: 'work' };
  await second.box.advance(310_000);
  assert.deepEqual([second.session.connection, second.session.status.outcome], ['streamed', 'resumed']);
  second.box.ways = { webSockets: 'work', streams: 'work', posts: 'work' };
  second.page.emit('online');
  await second.box.advance(12_000);
  assert.deepEqual([second.session.connection, storage.getItem('stillhere:route')], ['websocket', null]);
});
