// Runs in each page of run.mjs: a client of one kind behind the same few functions, and the loads.

/** Opens a client of this kind. `send` takes bytes; `onmessage` gets them as a Uint8Array. */
const OPEN = {
  bare() {
    const socket = new WebSocket(location.href.replace(/^http/, 'ws'));
    socket.binaryType = 'arraybuffer';
    const client = {
      opened: new Promise((resolve) => (socket.onopen = resolve)),
      onmessage: null,
      send: (bytes) => socket.send(bytes),
    };
    socket.onmessage = ({ data }) => client.onmessage(new Uint8Array(data));
    return client;
  },
  stillhere() {
    const { session } = stillhere;
    const client = {
      opened: new Promise((resolve) => (session.onstatus = ({ state }) => state === 'connected' && resolve())),
      onmessage: null,
      send: (bytes) => session.send(bytes),
    };
    session.onmessage = (data) => client.onmessage(data);
    return client;
  },
  socketio() {
    const socket = io({ transports: ['websocket'] });
    const client = {
      opened: new Promise((resolve) => socket.on('connect', resolve)),
      onmessage: null,
      send: (bytes) => socket.emit('message', bytes),
    };
    socket.on('message', (data) => client.onmessage(new Uint8Array(data)));
    return client;
  },
};

/** Milliseconds from the navigation until the client was open. */
let openedAt;
const client = OPEN[document.body.dataset.kind]();
client.opened.then(() => (openedAt = performance.now()));

/**
 * Sends messages that the server echoes, with `inFlight` of them under way at a time. Throws if an
 * echo is missing, out of order or of the wrong size.
 */
function echo({ count, size, inFlight }) {
  return new Promise((resolve, reject) => {
    let [sent, echoed] = [0, 0];
    const send = () => {
      const message = new Uint8Array(size);
      new DataView(message.buffer).setUint32(0, sent++);
      client.send(message);
    };
    client.onmessage = (data) => {
      const number = new DataView(data.buffer, data.byteOffset).getUint32(0);
      if (number !== echoed || data.length !== size) return reject(new Error(`echo ${number} of ${data.length} bytes, expected ${echoed} of ${size}`));
      echoed += 1;
      if (echoed === count) resolve();
      else if (sent < count) send();
    };
    while (sent < Math.min(inFlight, count)) send();
  });
}
