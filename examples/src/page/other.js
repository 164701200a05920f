// The second page: a counter in a separate session. The page sends one byte to add one; the server
// sends the value as a u64.

const session = window.stillhere.session;
const $ = (id) => document.getElementById(id);
const demo = { session, outcomes: [], value: 0, get status() { return session.status; } };
window.demo = demo;

$("session-id").textContent = session.id;
$("add").onclick = () => session.send(new Uint8Array([1]));

session.onmessage = (data) => {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  demo.value = Number(view.getBigUint64(0, true));
  $("value").textContent = demo.value;
};

let shown = "";
function showStatus(status) {
  if (status.state === "connected" && shown !== "connected") demo.outcomes.push(status.outcome);
  shown = status.state;
  $("session-id").textContent = session.id;
  $("status").dataset.state = status.state;
  $("status-title").textContent = status.state === "connected" ? `Connected (${status.outcome})` : status.state;
}
session.onstatus = showStatus;
showStatus(session.status);
