// A network between a browser and a program, controlled by a test.

import { createHash } from 'node:crypto';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';

import { until } from './support.mjs';

/** A proxy in front of the demo that can block WebSockets, or all traffic. */
export class Network {
  /** Refuses WebSockets or, with `webSockets: 'mute'`, opens them but forwards nothing. */
  isBlocked = true;
  isDown = false;
  upgrades = 0;
  #sockets = new Set();
  server = createServer((asked, answer) => {
    const { method, headers } = asked;
    const onward = request(this.target, { method, path: this.#pathOf(asked), headers }, (answered) => {
      answered.on('error', () => answer.destroy());
      if (this.#isWhole) return void this.#passWhole(answered, answer);
      answer.writeHead(answered.statusCode, answered.headers);
      answer.flushHeaders();
      answered.pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    answer.on('close', () => onward.destroy());
    asked.pipe(onward);
  });

  #isWhole;

  /**
   * With `isWhole`, forwards an answer only after its end. The target does not know the prefix used
   * here.
   */
  constructor(target, { webSockets = 'refused', isWhole = false, prefix = '' } = {}) {
    this.target = target;
    this.prefix = prefix;
    this.#isWhole = isWhole;
    this.server.on('connection', (socket) => {
      if (this.isDown) return socket.destroy();
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => {});
    });
    this.server.on('upgrade', (asked, socket, head) => {
      this.upgrades += 1;
      if (this.isBlocked) return webSockets === 'mute' ? openMute(asked, socket) : socket.destroy();
      const { hostname, port } = new URL(this.target);
      const onward = connect(Number(port), hostname);
      const lines = asked.rawHeaders.flatMap((name, at, all) => (at % 2 ? [] : [`${name}: ${all[at + 1]}`]));
      onward.write(`GET ${this.#pathOf(asked)} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      onward.write(head);
      for (const [one, other] of [[socket, onward], [onward, socket]]) {
        one.on('error', () => {}).on('close', () => other.destroy());
        one.pipe(other);
      }
    });
  }

  async #passWhole(answered, answer) {
    const chunks = await answered.toArray().catch(() => undefined);
    if (!chunks) return answer.destroy();
    const { 'transfer-encoding': _, ...headers } = answered.headers;
    answer.writeHead(answered.statusCode, headers).end(Buffer.concat(chunks));
  }

  #pathOf({ url }) {
    return url.startsWith(this.prefix) ? url.slice(this.prefix.length) : url;
  }

  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Starts a network in front of this program that lets everything pass; returns it and its origin. */
export async function startNetwork(stage, { url }) {
  const network = new Network(url);
  network.isBlocked = false;
  return [network, await stage.serve(network.server)];
}

/** Takes the connection from the page, and lets no other through, as a closed laptop does. */
export async function closeLid(network, page) {
  network.isDown = true;
  network.cut();
  await until(page, () => stillhere.session.status.state === 'reconnecting');
}

export async function openLid(network, page) {
  network.isDown = false;
  await page.evaluate(() => stillhere.session.retry());
  await until(page, () => stillhere.session.status.state === 'connected');
}

/** Opens a WebSocket and forwards nothing. */
function openMute({ headers }, socket) {
  const accept = createHash('sha1').update(`${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  const { 'sec-websocket-protocol': protocol } = headers;
  const lines = ['HTTP/1.1 101 Switching Protocols', 'upgrade: websocket', 'connection: upgrade', `sec-websocket-accept: ${accept}`, `sec-websocket-protocol: ${protocol}`];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  socket.resume();
}
