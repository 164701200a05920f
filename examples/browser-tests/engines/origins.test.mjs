// Pages from an origin other than the hub's: they load the client in every possible way and have a
// session over every route.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';

import { Network } from '../network.mjs';
import { freePort, until } from '../support.mjs';
import { engineTest } from './engine.mjs';

/** A policy under which only resources that allow embedding load. */
const ISOLATED = { 'cross-origin-embedder-policy': 'require-corp', 'cross-origin-opener-policy': 'same-origin' };
const WITHOUT_WEB_SOCKETS = `<script>window.WebSocket = class { constructor() { throw new Error('blocked'); } };</script>`;
const WATCH = `<script>
  window.heard = 0;
  window.watch = (session) => { window.session = session; session.onmessage = () => { window.heard += 1; }; };
</script>`;

/** Variants of the hub's tag in the page. */
const WAYS = {
  'as a script': (tag) => `${tag}<script>watch(stillhere.session)</script>`,
  'as a script with crossorigin': (tag) => `${tag.replace('<script ', '<script crossorigin ')}<script>watch(stillhere.session)</script>`,
  'as a module': (tag) => {
    const { src, ticket } = partsOf(tag);
    const module = src.replace(/[^/]*$/, 'client.mjs');
    return `<script type=module>import { connect } from '${module}'; watch(connect(${ticket}));</script>`;
  },
};

for (const [way, embed] of Object.entries(WAYS)) {
  engineTest(`an isolated page of another origin loads the client ${way}, and is connected over each route`, async (stage, engine) => {
    const pages = new Map();
    const server = createServer(({ url }, response) => response.writeHead(200, { 'content-type': 'text/html', ...ISOLATED }).end(pages.get(url) ?? ''));
    const origin = (await stage.serve(server)).replace('127.0.0.1', 'localhost');
    const port = await freePort();
    const demo = await stage.startDemo(port, '--allow-origin', origin, '--public-url', `http://127.0.0.1:${port}/stillhere`);

    for (const [route, head] of [['websocket', ''], ['posts', WITHOUT_WEB_SOCKETS]]) {
      pages.set(`/${route}`, `<!doctype html><title>${route}</title>${head}${WATCH}${embed(await tagOf(demo.url))}`);
      const tab = await engine.open(`${origin}/${route}`);
      await until(tab, () => window.heard > 10);
      const { isIsolated, state, connection } = await tab.evaluate(() => ({
        isIsolated: crossOriginIsolated,
        state: session.status.state,
        connection: session.connection,
      }));
      assert.deepEqual([isIsolated, state, connection === 'websocket'], [true, 'connected', route === 'websocket']);
      // The policy is in force: a resource that does not allow embedding does not load.
      await assert.rejects(tab.evaluate((url) => fetch(url, { mode: 'no-cors' }).then(() => 0), `${demo.url}/assets/counts.js`));
    }
  });
}

engineTest('a public URL relative to the page works under a prefix that the application does not know', async (stage, engine) => {
  const demo = await stage.startDemo(0, '--public-url', './stillhere');
  const network = new Network(demo.url, { prefix: '/some/unknown/prefix' });
  network.isBlocked = false;
  const origin = await stage.serve(network.server);
  const tab = await engine.open(`${origin}/some/unknown/prefix/`);
  await until(tab, () => window.stillhere?.session.status.state === 'connected');
  const { src, url } = await tab.evaluate(() => {
    const script = document.querySelector('[data-stillhere]');
    return { src: script.src, url: JSON.parse(script.dataset.stillhere).url };
  });
  assert.ok(src.startsWith(`${origin}/some/unknown/prefix/stillhere/client.`), src);
  assert.ok(url.startsWith('./stillhere/'), url);
  assert.equal(network.upgrades, 1);
});

/** Returns the tag of a newly opened session. */
async function tagOf(url) {
  const [tag] = /<script src="[^"]*" data-stillhere="[^"]*"><\/script>/.exec(await (await fetch(url)).text());
  return tag;
}

function partsOf(tag) {
  const [, src, ticket] = /src="([^"]*)" data-stillhere="([^"]*)"/.exec(tag);
  return { src, ticket: ticket.replaceAll('&quot;', '"') };
}
