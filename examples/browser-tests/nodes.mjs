// Several nodes as a test needs them: NATS, and nginx that gives each connection to any of them.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

import { eventually, freePort } from './support.mjs';

/** Starts a NATS server with JetStream; returns its URL. */
export async function startNats(stage) {
  const port = await freePort();
  const options = ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', stage.makeFolder()];
  keep(stage, spawn('nats-server', options, { stdio: 'ignore' }));
  await eventually('NATS listens', () => listens(port));
  return `nats://127.0.0.1:${port}`;
}

/** Starts nginx in front of the programs that listen at these ports; returns its origin. */
export async function startRandomNginx(stage, ports) {
  const listen = await freePort();
  const folder = stage.makeFolder();
  writeFileSync(join(folder, 'nginx.conf'), `
    pid nginx.pid;
    events {}
    http {
      access_log off;
      map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
      upstream nodes { random; ${ports.map((port) => `server 127.0.0.1:${port};`).join(' ')} }
      server {
        listen 127.0.0.1:${listen};
        location / {
          proxy_pass http://nodes;
          proxy_http_version 1.1;
          proxy_set_header Host $http_host;
          proxy_set_header Upgrade $http_upgrade;
          proxy_set_header Connection $connection_upgrade;
          proxy_buffering off;
          proxy_next_upstream error;
        }
      }
    }`);
  const options = ['-e', 'stderr', '-p', folder, '-c', 'nginx.conf', '-g', 'daemon off; master_process off;'];
  // It says each connection that a killed node has not taken.
  keep(stage, spawn('/usr/sbin/nginx', options, { stdio: 'ignore' }));
  await eventually('nginx listens', () => listens(listen));
  return `http://127.0.0.1:${listen}`;
}

/** Kills the process at the end. */
function keep(stage, child) {
  const over = once(child, 'exit');
  stage.keep({
    close: async () => {
      if (child.kill('SIGKILL')) await over;
    },
  });
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}
