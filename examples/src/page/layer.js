// The page of the layer: it has one of everything that the layer can do, for the tests.

const { session, CallError } = window.stillhere;
const $ = (id) => document.getElementById(id);
/** What has arrived, in order, each with its name. */
const log = [];
const layer = { session, log, executed: 0, aborted: 0, outcomes: [] };
window.layer = layer;

for (const name of ["level", "dial"]) {
  session.observable(name, 0).subscribe((value) => log.push([name, value]));
}
session.observable("level", 0).subscribe((value) => { $("level").textContent = value; });
for (const name of ["restored", "moved"]) session.on(name, (value) => log.push([name, value]));
session.on("fails", () => { throw new Error("a handler broke"); });
session.onmessage = (bytes) => log.push(["bytes", bytes]);
session.ontext = (text) => log.push(["text", text]);
session.onjson = (value) => log.push(["json", value]);

session.handle("double", (number) => number * 2);
session.handle("next", () => (layer.executed += 1));
session.handle("rejects", () => { throw new CallError("rejected", "not today"); });
session.handle("fails", () => { throw new Error("the page's handler broke"); });
session.handle("waits", (_, { signal }) => new Promise((resolve) => {
  signal.addEventListener("abort", () => resolve(layer.aborted += 1));
}));

/** Counts as fast as the server takes the numbers. Notes how far it came, and whether it was left. */
session.handle("count", async function* (to) {
  try {
    layer.to = to;
    for (layer.counted = 1; layer.counted <= layer.to; layer.counted += 1) yield layer.counted;
    if (to === 13) throw new CallError("rejected", "13 is too many");
    return "done";
  } finally {
    layer.leftAt = layer.counted;
  }
});

function noticeStatus({ state, outcome }) {
  if (state === "connected") layer.outcomes.push(outcome);
}
session.watchStatus(noticeStatus);
noticeStatus(session.status);
$("raise").onclick = () => session.call("raise", 1);
