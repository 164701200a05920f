import { connect } from 'stillhere';

const say = document.getElementById('say');
const log = document.getElementById('log');
const response = await fetch('/ticket', { method: 'POST' });
const session = connect(await response.json(), {
  onmessage: (data) => { log.textContent += `${new TextDecoder().decode(data)}\n`; },
  onstatus: ({ state }) => { document.title = state; },
});
say.onchange = () => session.send(new TextEncoder().encode(say.value));
