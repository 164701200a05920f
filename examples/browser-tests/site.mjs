// A test's own website in front of a demo. It serves the test's pages and forwards everything else
// to the demo, including WebSockets.

import { createServer, request } from 'node:http';
import { connect } from 'node:net';

/**
 * Starts the site and returns its origin.
 *
 * @param {Stage} stage
 * @param {Demo} demo
 * @param {(request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>} answer
 *   returns false if the demo is to answer
 */
export function startSite(stage, demo, answer) {
  const server = createServer(async (incoming, response) => {
    if (await answer(incoming, response)) return;
    const { method, url, headers } = incoming;
    const forwarded = request(demo.url + url, { method, headers }, (answered) => {
      response.writeHead(answered.statusCode, answered.headers);
      answered.pipe(response);
    });
    forwarded.on('error', () => response.destroy());
    incoming.pipe(forwarded);
  });
  server.on('upgrade', (incoming, socket, head) => {
    const upstream = connect({ port: demo.port, host: '127.0.0.1', noDelay: true }, () => {
      const lines = incoming.rawHeaders.flatMap((name, index, all) => (index % 2 ? [] : `${name}: ${all[index + 1]}`));
      upstream.write([`${incoming.method} ${incoming.url} HTTP/1.1`, ...lines, '', ''].join('\r\n'));
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    for (const [one, other] of [[socket, upstream], [upstream, socket]]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  return stage.serve(server);
}

/** Answers with a page. */
export function sendPage(response, html, headers = {}) {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'private, no-cache', ...headers });
  response.end(`<!doctype html><html lang="en">${html}</html>`);
  return true;
}

/** Returns the client's script element with this ticket, as the server writes it. */
export function scriptTag(ticket, attributes = '') {
  const escaped = JSON.stringify(ticket).replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  return `<script src="/stillhere/client.js" ${attributes} data-stillhere="${escaped}"></script>`;
}

/** Returns the ids of the tickets whose sessions are open in this window. */
export const livingSessions = (page) => page.evaluate(() => [...window[Symbol.for('stillhere')].sessions.keys()]);
