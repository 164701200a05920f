// The client under a Content-Security-Policy that allows nothing else, and behind a proxy that
// serves the application under a path.

import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';

import { assertCountersClean, browserTest, openDemo, openTab, reload, stateOf, until } from './support.mjs';

const PREFIX = '/app';
const NONCE = 'bm90IGd1ZXNzZWQ';
/** The strictest policy under which scripts with the nonce can run and connect. */
const NONCE_POLICY = `default-src 'none'; script-src 'nonce-${NONCE}'; connect-src 'self'`;

browserTest("the demo's pages run under default-src 'self' and violate nothing", async (stage) => {
  const demo = await stage.startDemo();
  const context = await stage.openChromium();
  await recordViolations(context);

  const page = await openDemo(context, demo.url);
  await reload(page);
  await assertCountersClean(page);
  assert.deepEqual(await violations(page), []);
  // The policy is in force: an inline script does not run.
  assert.deepEqual(await runInline(page), [undefined, ['script-src-elem']]);

  await page.goto(`${demo.url}/other`);
  await until(page, () => window.demo?.status.state === 'connected');
  await page.click('#add');
  await until(page, () => demo.value === 1);
  assert.deepEqual(await violations(page), []);
  assert.deepEqual(await runInline(page), [undefined, ['script-src-elem']]);
});

browserTest('the script tag works with a nonce and without any other permission', async (stage) => {
  const demo = await stage.startDemo();
  const context = await stage.openChromium();
  await recordViolations(context);
  const html = (await scriptTag(demo)).replace('<script', `<script nonce="${NONCE}"`);
  const page = await openTab(context, await stage.serve(reverseProxy(demo, '', html, NONCE_POLICY)));

  await assertAnswers(page);
  assert.deepEqual(await violations(page), []);
  assert.deepEqual(await runInline(page), [undefined, ['script-src-elem']]);
});

browserTest('where a policy forbids the connection the page is told that it reconnects', async (stage) => {
  const demo = await stage.startDemo();
  const context = await stage.openChromium();
  await recordViolations(context);
  const proxy = reverseProxy(demo, '', await scriptTag(demo), "default-src 'self'; connect-src 'none'");
  const page = await openTab(context, await stage.serve(proxy));

  const { state, code } = await until(page, () => stillhere.session.status.retryAt !== null && stillhere.session.status);
  assert.deepEqual({ state, code }, { state: 'connecting', code: 1006 });
  assert.ok((await violations(page)).every((directive) => directive === 'connect-src'));
});

browserTest('the whole demo works under a path behind a reverse proxy', async (stage) => {
  const demo = await stage.startDemo();
  const origin = await stage.serve(reverseProxy(demo, PREFIX));
  const page = await openDemo(await stage.openChromium(), `${origin}${PREFIX}/`);
  const { id } = await stateOf(page);
  assert.match(await page.getAttribute('script[data-stillhere]', 'src'), /^\/app\/stillhere\//);

  await page.click('#add');
  await until(page, () => demo.value === 1);
  assert.equal(await demo.fault(id, 'reset'), 204);
  await until(page, () => demo.cuts === 1 && demo.status.state === 'connected');
  await reload(page);

  const { id: restored, outcomes, value } = await stateOf(page);
  assert.deepEqual({ restored, outcomes, value }, { restored: id, outcomes: ['restored'], value: 1 });
  await assertCountersClean(page);
});

browserTest('a ticket with a relative url finds its way from the page', async (stage) => {
  const demo = await stage.startDemo();
  const relative = async (base) => {
    const ticket = await demo.ticket('echo');
    return { ...ticket, url: `${base}${ticket.id}` };
  };
  // The server that writes this page does not know its public path.
  const html = `<script src="app/stillhere/client.js" data-stillhere="${attributeOf(await relative('app/stillhere/'))}"></script>`;
  const page = await openTab(await stage.openChromium(), await stage.serve(reverseProxy(demo, PREFIX, html, "default-src 'self'")));

  await assertAnswers(page);
  const answer = await page.evaluate(async (ticket) => {
    const { connect } = await import('/app/stillhere/client.mjs');
    return new Promise((resolve) => connect(ticket, { onmessage: (data) => resolve(data[0]) }).send(new Uint8Array([7])));
  }, await relative('app/stillhere/'));
  assert.equal(answer, 7);
});

/** The script tag that the demo writes into a page, with an echo session in it. */
async function scriptTag(demo) {
  const html = await (await fetch(`${demo.url}/other`)).text();
  const [, source] = /<script src="([^"]*)" data-stillhere=/.exec(html);
  return `<script src="${source}" data-stillhere="${attributeOf(await demo.ticket('echo'))}"></script>`;
}

const attributeOf = (ticket) => JSON.stringify(ticket).replaceAll('"', '&quot;');

/** Checks that the session of the page's script tag echoes. */
async function assertAnswers(page) {
  const answer = page.evaluate(() => {
    const { session } = stillhere;
    return new Promise((resolve) => {
      session.onmessage = (data) => resolve(data[0]);
      session.send(new Uint8Array([7]));
    });
  });
  assert.equal(await answer, 7);
}

async function recordViolations(context) {
  await context.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective));
  });
}

const violations = (page) => page.evaluate(() => violations);

/**
 * Tries a script that these pages' policies forbid; returns its effect and the violated directives.
 */
async function runInline(page) {
  await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.head.append(script);
  });
  await until(page, () => violations.length > 0);
  return page.evaluate(() => [window.ran, violations]);
}

/**
 * A reverse proxy that serves the demo under a path, as if the demo were configured for it. The
 * page at its root is `html`, under this policy. (Chromium does not treat a page made up by
 * Playwright as local, and forbids it to connect.)
 */
function reverseProxy({ port }, prefix, html = '', policy = '') {
  const server = createServer((incoming, outgoing) => {
    if (html !== '' && incoming.url === '/') {
      outgoing.writeHead(200, { 'content-type': 'text/html', 'content-security-policy': policy });
      return outgoing.end(`<!doctype html><title>test</title>${html}`);
    }
    const { url, method, headers } = incoming;
    if (!url.startsWith(prefix)) return outgoing.writeHead(404).end();
    const options = { host: '127.0.0.1', port, path: url.slice(prefix.length), method, headers: { ...headers, 'accept-encoding': 'identity' } };
    const upstream = request(options, async (response) => {
      const body = Buffer.concat(await response.toArray());
      const told = isText(response) ? Buffer.from(body.toString().replaceAll(PATHS, `$1${prefix}/`)) : body;
      outgoing.writeHead(response.statusCode, { ...response.headers, 'content-length': told.length }).end(told);
    });
    upstream.on('error', () => outgoing.destroy());
    incoming.pipe(upstream);
  });
  server.on('upgrade', ({ method, url, rawHeaders }, browser, head) => {
    const headers = rawHeaders.reduce((text, part, index) => text + part + (index % 2 ? '\r\n' : ': '), '');
    const upstream = connect(port, '127.0.0.1', () => {
      upstream.write(`${method} ${url.slice(prefix.length)} HTTP/1.1\r\n${headers}\r\n`);
      upstream.write(head);
      upstream.pipe(browser).pipe(upstream);
    });
    const close = () => [browser, upstream].forEach((socket) => socket.destroy());
    for (const socket of [browser, upstream]) socket.on('error', close).on('close', close);
  });
  return server;
}

/**
 * Matches texts of the demo that name its own paths. In an application, `HubBuilder::public_url`
 * and a base path adjust these.
 */
const PATHS = /(["'`;])\/(?=(?:stillhere|assets|fault|other)\b)/g;
const isText = ({ headers }) => /html|javascript|css/.test(headers['content-type']);
