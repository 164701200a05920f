// The servers whose clients are compared. Each serves a page with its client and echoes bytes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { Server } from 'socket.io';
import { WebSocketServer } from 'ws';

import { scriptTag, sendPage, startSite } from '../../browser-tests/site.mjs';

const root = join(import.meta.dirname, '../../..');
const dist = join(root, 'core/client/dist');
const script = readFileSync(join(import.meta.dirname, 'page.js'));

/** What servers were started and must be stopped. */
export class Stage {
  #stops = [];

  /** Makes an HTTP server listen on a free loopback port; returns its origin. */
  async serve(server) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#stops.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${server.address().port}`;
  }

  keep(stop) {
    this.#stops.push(stop);
  }

  async clear() {
    for (const stop of this.#stops.reverse()) await stop();
  }
}

/** Starts the servers; returns the address of each kind's page. */
export async function startServers(stage) {
  return { bare: await startBare(stage), stillhere: await startStillhere(stage), socketio: await startSocketIo(stage) };
}

function startBare(stage) {
  const answer = answerWith('bare', () => '');
  const server = createServer(answer);
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  return stage.serve(server);
}

function startSocketIo(stage) {
  const answer = answerWith('socketio', () => '<script src="/socket.io/socket.io.min.js"></script>');
  const server = createServer(answer);
  const sockets = new Server(server, { perMessageDeflate: false });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.emit('message', data)));
  return stage.serve(server);
}

/**
 * Starts the demo, whose sessions echo, behind a site that serves the page and the client as it is
 * in dist/ now.
 */
async function startStillhere(stage) {
  const demo = await startDemo(stage);
  const ticket = async () => scriptTag(await (await fetch(`${demo.url}/ticket/echo`)).json());
  const answer = answerWith('stillhere', ticket);
  const client = readFileSync(join(dist, 'stillhere.js.gz'));
  return startSite(stage, demo, (request, response) =>
    request.url === '/stillhere/client.js' ? sendScript(response, client, { 'content-encoding': 'gzip' }) : answer(request, response));
}

async function startDemo(stage) {
  const program = process.env.STILLHERE_DEMO;
  const [command, ...options] = program ? [program] : ['cargo', 'run', '--quiet', '--release', '--locked', '--package', 'stillhere-examples', '--bin', 'axum', '--'];
  const child = spawn(command, [...options, '--addr', '127.0.0.1:0'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const over = once(child, 'close');
  stage.keep(() => child.kill() && over);
  const [line] = await Promise.race([once(createInterface(child.stdout), 'line'), over.then(() => [''])]);
  const [url] = /http:\S+/.exec(line) ?? [];
  if (!url) throw new Error(`the demo did not start: ${line}`);
  return { url, port: Number(new URL(url).port) };
}

/** Answers with the page and its scripts; returns false for other requests. */
function answerWith(kind, client) {
  return async ({ url }, response) => {
    if (url === '/page.js') return sendScript(response, script);
    if (url !== '/') return false;
    return sendPage(response, `<head>${await client()}</head><body data-kind="${kind}"><script src="/page.js"></script></body>`);
  };
}

function sendScript(response, body, headers = {}) {
  response.writeHead(200, { 'content-type': 'text/javascript', 'cache-control': 'no-store', ...headers });
  response.end(body);
  return true;
}
