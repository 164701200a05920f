import { strict as assert } from 'node:assert';
import { test } from 'node:test';

import { EVERY_FEATURE } from '../src/connect';
import { Session } from '../src/session';
import type { OpenTicket } from '../src/ticket';
import { FakeBrowser, FakeFrame, FakePage, FakeStorage, type PageOptions } from './fake_page';
import { accept, encodeEnd, payloadsOf, readHello, ticketOf } from './fake_server';

const KEY = 'stillhere:demo:/page?q=1:';

const own = ticketOf('fresh', { restore: 'demo' });
const earlier = ticketOf('earlier', { restore: 'demo' });

/** A page that finds the ticket of an earlier page. */
function reload(options: PageOptions = {}, stored: unknown = earlier): { page: FakePage; session: Session; storage: FakeStorage } {
  const storage = new FakeStorage();
  storage.setItem(KEY, typeof stored === 'string' ? stored : JSON.stringify(stored));
  const page = new FakePage({ navigation: 'reload', storage, ...options });
  return { page, storage, session: new Session(own, {}, page, EVERY_FEATURE) };
}

/** Returns the ticket that the page presents on its newest connection. */
async function presented(page: FakePage): Promise<string> {
  await page.browser.settle();
  page.socket.open();
  const { secret } = readHello(page.socket.read()[0]);
  return secret === earlier.secret ? 'earlier' : secret === own.secret ? 'fresh' : secret;
}

function storedId(storage: FakeStorage, key = KEY): string | undefined {
  const item = storage.getItem(key);
  return item === null ? undefined : (JSON.parse(item) as OpenTicket).id;
}

test('without a label nothing is stored', async () => {
  const page = new FakePage();
  new Session(ticketOf('mine'), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  assert.equal(page.storage.items.size, 0);
});

test('with a label the ticket in use is stored under label, path, query and frame', async () => {
  const page = new FakePage();
  new Session(own, {}, page, EVERY_FEATURE);
  await page.browser.settle();
  assert.deepEqual([...page.storage.items], [[KEY, JSON.stringify(own)]]);
});

for (const navigation of ['reload', 'back_forward']) {
  test(`a page reached by ${navigation} presents the stored ticket and holds its lock`, async () => {
    const { page, session, storage } = reload({ navigation });
    await page.browser.settle();
    const hello = accept(page.socket, { incarnation: 2 });
    assert.equal(hello.secret, earlier.secret);
    assert.equal(hello.incarnation, 0);
    assert.equal(page.socket.url, 'wss://example.com/stillhere/earlier');
    assert.equal(session.id, 'earlier');
    assert.equal(session.status.outcome, 'restored');
    assert.deepEqual([...page.browser.lockHolders], [['stillhere:earlier', page]]);
    assert.equal(storedId(storage), 'earlier');
  });
}

test('a page reached by a link presents its own ticket and stores it', async () => {
  const { page, storage } = reload({ navigation: 'navigate' });
  assert.equal(await presented(page), 'fresh');
  assert.equal(storedId(storage), 'fresh');
});

for (const [name, stored] of [
  ['with other limits', { ...earlier, limits: { ...earlier.limits, message: 1 } }],
  ['of another protocol', { ...earlier, protocol: 'stillhere.v0' }],
  ['that is no ticket', {}],
  ['that is null', 'null'],
  ['that is no JSON', '{'],
] as const) {
  test(`a stored ticket ${name} is not presented`, async () => {
    const { page, storage } = reload({}, stored);
    assert.equal(await presented(page), 'fresh');
    assert.equal(storedId(storage), 'fresh');
  });
}

test('a reload takes over the lock that the page before it released', async () => {
  const browser = new FakeBrowser();
  const storage = new FakeStorage();
  const before = new FakePage({ browser, storage });
  new Session(earlier, {}, before, EVERY_FEATURE);
  await browser.settle();
  before.emit('pagehide', { persisted: false });
  await browser.settle();
  const after = new FakePage({ browser, storage, navigation: 'reload' });
  new Session(own, {}, after, EVERY_FEATURE);
  assert.equal(await presented(after), 'earlier');
  assert.equal(browser.lockHolders.get('stillhere:earlier'), after);
});

for (const [name, withoutLocks] of [['lock', false], ['channel', true]] as const) {
  test(`a copy of an active page finds it by its ${name} and uses its own ticket`, async () => {
    const browser = new FakeBrowser();
    const original = new FakePage({ browser, withoutLocks });
    new Session(earlier, {}, original, EVERY_FEATURE);
    await browser.settle();

    const storage = new FakeStorage();
    for (const [key, value] of original.storage.items) storage.setItem(key, value);
    const copy = new FakePage({ browser, storage, navigation: 'back_forward', withoutLocks });
    new Session(own, {}, copy, EVERY_FEATURE);
    assert.equal(await presented(copy), 'fresh');
    assert.equal(storedId(storage), 'fresh');
    assert.equal(storedId(original.storage), 'earlier');
  });
}

test('without locks the stored ticket is presented when nobody has answered for 100 ms', async () => {
  const { page } = reload({ withoutLocks: true });
  await page.browser.advance(99);
  assert.equal(page.sockets.length, 0);
  await page.browser.advance(1);
  assert.equal(await presented(page), 'earlier');
});

test('without locks and channels the server decides', async () => {
  const { page } = reload({ withoutLocks: true, withoutChannels: true });
  assert.equal(await presented(page), 'earlier');
});

for (const [name, end] of [
  ['refused for good', encodeEnd(4104)],
  ['of an unknown session', encodeEnd(4100)],
  ['of an ended session', encodeEnd(4102, 5)],
] as const) {
  test(`after a stored ticket ${name} the page presents its own, and sends what was queued meanwhile`, async () => {
    const { page, session, storage } = reload();
    const states: string[] = [];
    session.onstatus = ({ state }) => states.push(state);
    session.send(Buffer.from('meanwhile'));
    assert.equal(await presented(page), 'earlier');
    page.socket.receive(end);
    await page.browser.settle();
    assert.equal(session.id, 'fresh');
    assert.equal(page.socket.url, 'wss://example.com/stillhere/fresh');
    assert.equal(accept(page.socket).secret, own.secret);
    assert.deepEqual(payloadsOf(page.socket.read()), ['meanwhile']);
    assert.deepEqual(states, ['connected']);
    assert.equal(storedId(storage), 'fresh');
    assert.deepEqual([...page.browser.lockHolders.keys()], ['stillhere:fresh']);
  });
}

test("a refusal of the page's own ticket after the stored one is final", async () => {
  const { page, session, storage } = reload();
  assert.equal(await presented(page), 'earlier');
  page.socket.receive(encodeEnd(4100));
  assert.equal(await presented(page), 'fresh');
  page.socket.receive(encodeEnd(4100));
  await page.browser.settle();
  assert.equal(session.status.state, 'refused');
  assert.equal(storage.items.size, 0);
  assert.equal(page.browser.lockHolders.size, 0);
});

test('a stored ticket refused for a while is presented again', async () => {
  const { page } = reload();
  assert.equal(await presented(page), 'earlier');
  page.socket.receive(encodeEnd(4202, 0, 1000));
  await page.browser.advance(1000);
  assert.equal(page.sockets.length, 2);
  assert.equal(await presented(page), 'earlier');
});

test('the ticket of a session that ended is forgotten', async () => {
  const { page, storage } = reload();
  await page.browser.settle();
  accept(page.socket, { incarnation: 2 });
  page.socket.receive(encodeEnd(4102, 1));
  assert.equal(storage.items.size, 0);
  page.emit('pageshow', { persisted: true });
  assert.equal(storage.items.size, 0);
});

test('a page whose address changed is restored at the new one', async () => {
  const page = new FakePage();
  new Session(own, {}, page, EVERY_FEATURE);
  await page.browser.settle();
  page.location.pathname = '/other';
  page.emit('pagehide', { persisted: false });
  assert.equal(storedId(page.storage, 'stillhere:demo:/other?q=1:'), 'fresh');
});

test('a page that comes back from the cache stores its ticket again', async () => {
  const page = new FakePage();
  new Session(own, {}, page, EVERY_FEATURE);
  await page.browser.settle();
  page.emit('pagehide', { persisted: true });
  page.storage.setItem(KEY, JSON.stringify(earlier));
  page.emit('pageshow', { persisted: true });
  assert.equal(storedId(page.storage), 'fresh');
});

test('a session closed while its ticket is being chosen holds no lock and no channel', async () => {
  const { page, storage, session } = reload();
  session.close();
  await page.browser.settle();
  assert.equal(page.sockets.length, 0);
  assert.equal(page.browser.lockHolders.size, 0);
  assert.equal(storage.items.size, 0);
});

test('a page without storage uses its own ticket', async () => {
  const storage = new FakeStorage();
  storage.isForbidden = true;
  const page = new FakePage({ storage, navigation: 'reload' });
  const session = new Session(own, {}, page, EVERY_FEATURE);
  assert.equal(await presented(page), 'fresh');
  session.close();
  assert.deepEqual(page.errors, []);
});

test('frames of one page keep separate tickets', async () => {
  const top = new FakeFrame();
  const [first, second] = [new FakeFrame(top), new FakeFrame(top)];
  const inner = new FakeFrame(second);
  const storage = new FakeStorage();
  for (const self of [top, first, second, inner]) {
    const page = new FakePage({ storage, self });
    new Session(own, {}, page, EVERY_FEATURE);
    await page.browser.settle();
  }
  assert.deepEqual(
    [...storage.items.keys()].map((key) => key.slice(KEY.length)),
    ['', '.0', '.1', '.0.1'],
  );
});

/** The sessions that a page of these tickets gets, each identified by the tickets of the page loads so far. */
async function load(storage: FakeStorage, tickets: readonly OpenTicket[], options: PageOptions = {}): Promise<{ page: FakePage; sessions: Session[] }> {
  const page = new FakePage({ storage, navigation: 'reload', ...options });
  const sessions = tickets.map((ticket) => new Session(ticket, {}, page, EVERY_FEATURE));
  await page.browser.settle();
  return { page, sessions };
}

const idsOf = (sessions: readonly Session[]): string[] => sessions.map(({ id }) => id);
const ticketsOf = (load: string, labels: readonly string[]): OpenTicket[] =>
  labels.map((restore, index) => ticketOf(`${load}${index + 1}`, { restore }));

for (const [name, labels] of [
  ['two sessions of one label', ['demo', 'demo']],
  ['three sessions of one label', ['demo', 'demo', 'demo']],
  ['sessions of several labels', ['a', 'b', 'a', 'b']],
] as const) {
  test(`${name} are each restored by a reload, and by the next`, async () => {
    const storage = new FakeStorage();
    const expected = ticketsOf('old', labels).map(({ id }) => id);
    const first = await load(storage, ticketsOf('old', labels));
    first.page.emit('pagehide', { persisted: false });
    for (const generation of ['new', 'newer']) {
      const { page, sessions } = await load(storage, ticketsOf(generation, labels));
      assert.deepEqual(idsOf(sessions), expected);
      page.emit('pagehide', { persisted: false });
    }
  });
}

test('a label finds its session when the page has its sessions in another order', async () => {
  const storage = new FakeStorage();
  (await load(storage, ticketsOf('old', ['a', 'b']))).page.emit('pagehide', { persisted: false });
  const { sessions } = await load(storage, ticketsOf('new', ['b', 'a']));
  assert.deepEqual(idsOf(sessions), ['old2', 'old1']);
});

test('when the page has closed one of three sessions, a reload restores the others and opens that one anew', async () => {
  const storage = new FakeStorage();
  const labels = ['demo', 'demo', 'demo'];
  const { page, sessions } = await load(storage, ticketsOf('old', labels));
  sessions[1]!.close();
  await page.browser.settle();
  page.emit('pagehide', { persisted: false });
  const after = await load(storage, ticketsOf('new', labels));
  assert.deepEqual(idsOf(after.sessions), ['old1', 'new2', 'old3']);
});

test('when a reload has one session fewer, those that are left keep theirs', async () => {
  const storage = new FakeStorage();
  (await load(storage, ticketsOf('old', ['demo', 'demo', 'other']))).page.emit('pagehide', { persisted: false });
  const { sessions } = await load(storage, ticketsOf('new', ['demo', 'other']));
  assert.deepEqual(idsOf(sessions), ['old1', 'old3']);
});

test('a session that takes the place of a closed one is restored in it', async () => {
  const storage = new FakeStorage();
  const { page, sessions } = await load(storage, ticketsOf('old', ['demo']));
  sessions[0]!.close();
  await page.browser.settle();
  new Session(ticketOf('next', { restore: 'demo' }), {}, page, EVERY_FEATURE);
  await page.browser.settle();
  page.emit('pagehide', { persisted: false });
  const after = await load(storage, ticketsOf('new', ['demo']));
  assert.deepEqual(idsOf(after.sessions), ['next']);
});

test('frames with several sessions each restore their own', async () => {
  const storage = new FakeStorage();
  const top = new FakeFrame();
  const frames = [top, new FakeFrame(top), new FakeFrame(top)];
  const labels = ['demo', 'demo'];
  for (const [index, self] of frames.entries()) {
    (await load(storage, ticketsOf(`frame${index}-`, labels), { self })).page.emit('pagehide', { persisted: false });
  }
  for (const [index, self] of frames.entries()) {
    const { sessions } = await load(storage, ticketsOf('new', labels), { self });
    assert.deepEqual(idsOf(sessions), [`frame${index}-1`, `frame${index}-2`]);
  }
});

test('a session closed at another address than it was opened at is stored under neither', async () => {
  const storage = new FakeStorage();
  const { page, sessions } = await load(storage, ticketsOf('old', ['demo']));
  page.location.pathname = '/other';
  sessions[0]!.close();
  await page.browser.settle();
  assert.equal(storage.items.size, 0);
});

test('a session that moved to another address is stored only there', async () => {
  const storage = new FakeStorage();
  const { page } = await load(storage, ticketsOf('old', ['demo']));
  page.location.pathname = '/other';
  page.emit('pagehide', { persisted: false });
  assert.deepEqual([...storage.items.keys()], ['stillhere:demo:/other?q=1:']);
});
