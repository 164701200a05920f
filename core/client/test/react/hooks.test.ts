// The hooks, in StrictMode, which mounts each component twice.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { createElement, StrictMode } from 'react';
import { act, create, type ReactTestRenderer } from 'react-test-renderer';

import { Kind } from '../../src/app/unit';
import { useCall, useObservable, useSession, useStatus } from '../../src/react/index';
import { status } from '../../src/svelte/index';
import { App } from '../app/app_fixture';
import { FakePage } from '../fake_page';
import { accept, ticketOf, typesOf } from '../fake_server';

// React leaves a channel open, which would keep this process alive.
const channels: MessageChannel[] = [];
class Channel extends MessageChannel {
  constructor() {
    super();
    channels.push(this);
  }
}
Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true, MessageChannel: Channel });
after(() => channels.forEach(({ port1 }) => port1.close()));

async function mount(component: () => unknown): Promise<ReactTestRenderer> {
  let renderer!: ReactTestRenderer;
  const element = createElement(StrictMode, null, createElement(() => (component(), null)));
  await act(async () => {
    renderer = create(element);
  });
  return renderer;
}

test('useSession keeps one session over the double mount, and closes it in the end', async () => {
  const page = new FakePage();
  Object.assign(globalThis, { window: page });
  const seen: unknown[] = [];
  const renderer = await mount(() => {
    const session = useSession({ ...ticketOf('mine') });
    seen.push(useStatus(session)?.state);
  });
  await act(() => page.browser.settle());
  await act(async () => void accept(page.socket));
  assert.equal(page.sockets.length, 1);
  assert.equal(seen[0], undefined);
  assert.equal(seen.at(-1), 'connected');
  await act(async () => renderer.unmount());
  await page.browser.settle();
  assert.deepEqual(typesOf(page.socket.read()).includes(3), true, 'the page leaves');
});

test('useObservable shows the newest value of either side', async () => {
  const app = await App.connected();
  const seen: unknown[] = [];
  let set!: (value: number) => void;
  const renderer = await mount(() => {
    const [value, setter] = useObservable<number>(app.session, 'count', 0);
    seen.push(value);
    set = setter;
  });
  await act(() => app.give(Kind.Set, { name: 'count', number: 0 }, 7));
  assert.equal(seen.at(-1), 7);
  await act(async () => set(8));
  assert.equal(seen.at(-1), 8);
  assert.equal((await app.read())[0]!.value, 8);
  await act(async () => renderer.unmount());
  const renders = seen.length;
  app.session.observable('count', 0).set(9);
  assert.equal(seen.length, renders);
});

test('useCall shows the newest call', async () => {
  const app = await App.connected();
  const states: unknown[] = [];
  let call!: (query?: unknown) => Promise<unknown>;
  await mount(() => {
    const [run, state] = useCall(app.session, 'save');
    states.push(state);
    call = run;
  });
  let first!: Promise<unknown>;
  await act(async () => void (first = call(1)));
  await act(async () => void call(2).catch(() => {}));
  assert.deepEqual(states.at(-1), { isPending: true, answer: undefined, error: undefined });
  const [a, b] = await app.read();
  await act(() => app.give(Kind.Answer, { id: b!.id }, 'second'));
  await act(() => app.give(Kind.Answer, { id: a!.id }, 'first'));
  assert.equal(await first, 'first');
  assert.deepEqual(states.at(-1), { isPending: false, answer: 'second', error: undefined });
  await act(async () => void call(3).catch(() => {}));
  const [c] = await app.read();
  await act(() => app.give(Kind.Failure, { id: c!.id, code: 2 }, 'no'));
  const { answer, error } = states.at(-1) as { answer: unknown; error: Error };
  assert.deepEqual([answer, error.message], ['second', 'no']);
});

test('hooks work without a session', async () => {
  const seen: unknown[] = [];
  let call!: () => Promise<unknown>;
  await mount(() => {
    seen.push(useStatus(null), useObservable(null, 'count', 3)[0]);
    [call] = useCall(null, 'save');
  });
  assert.deepEqual(seen.slice(0, 2), [null, 3]);
  await assert.rejects(call(), TypeError);
});

test('the status is a Svelte store', async () => {
  const app = await App.connected();
  const seen: string[] = [];
  const unsubscribe = status(app.session).subscribe(({ state }) => void seen.push(state));
  await app.cut();
  await app.accept();
  unsubscribe();
  await app.cut();
  assert.deepEqual(seen, ['connected', 'reconnecting', 'connected']);
});
