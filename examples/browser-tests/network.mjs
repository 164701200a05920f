// A network between a browser and a program, which a test moves.

import { createServer, request } from 'node:http';
import { connect } from 'node:net';

/** A proxy before the demo that lets no WebSocket through, as long as it is so told, or nothing at all. */
export class Network {
  isBlocked = true;
  isDown = false;
  upgrades = 0;
  #sockets = new Set();
  server = createServer((asked, answer) => {
    const { method, headers } = asked;
    const onward = request(this.target, { method, path: this.#pathOf(asked), headers }, (answered) => {
      answer.writeHead(answered.statusCode, answered.headers);
      answer.flushHeaders();
      answered.on('error', () => answer.destroy());
      answered.pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    answer.on('close', () => onward.destroy());
    asked.pipe(onward);
  });

  /** The target knows nothing of the prefix under which it is found here. */
  constructor(target, prefix = '') {
    this.target = target;
    this.prefix = prefix;
    this.server.on('connection', (socket) => {
      if (this.isDown) return socket.destroy();
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => {});
    });
    this.server.on('upgrade', (asked, socket, head) => {
      this.upgrades += 1;
      if (this.isBlocked) return socket.destroy();
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

  #pathOf({ url }) {
    return url.startsWith(this.prefix) ? url.slice(this.prefix.length) : url;
  }

  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }
}
