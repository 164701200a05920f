// The page's side of the demo. The message formats are at the top of src/lib.rs. Tests use
// `window.demo`.

import { ClickChart, StreamChart } from "/assets/chart.js";
import { Counts } from "/assets/counts.js";

/** Numbers per second that this page sends while it is visible. The server sends as many. */
const RATE = 250;
const TRANSFER_BYTES = 20_000_000;
/**
 * Silence in milliseconds that shows a problem: the server sends numbers and reports many times a
 * second.
 */
const SILENT_AFTER = 1_200;

// Kinds of messages: in both directions, from the server, from the page.
const NUMBER = 1, CLICK = 2;
const START = 3, REPORT = 4, UPLOADED = 5, CHUNK = 6, KEPT = 7;
const ADD = 3, NOTE = 4, UPLOAD = 5, DOWNLOAD = 6;

const { session } = window.stillhere;
const $ = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const down = new Counts();
const up = { received: 0, missing: 0, doubled: 0, outOfOrder: 0 };
const outcomes = [];
let cuts = 0;
let value = 0;
let note = "";
let documents = 0;
let nextUp;
let lastHeard = performance.now();

// Incoming messages.

function takeMessage(data) {
  lastHeard = performance.now();
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const u64 = (offset) => Number(view.getBigUint64(offset, true));
  switch (view.getUint8(0)) {
    case NUMBER: return down.count(u64(1));
    case CLICK: return answerClick(view.getUint32(1, true));
    case START: return start(u64(1), u64(9), view.getUint32(17, true));
    case REPORT: return takeReport(u64(1), { received: u64(9), missing: u64(17), doubled: u64(25), outOfOrder: u64(33) });
    case UPLOADED: return transfer?.uploaded({ bytes: view.getUint32(1, true), checksum: view.getUint32(5, true) });
    case CHUNK: return transfer?.chunk(data);
    case KEPT: return showKept(view.getInt32(1, true), new TextDecoder().decode(data.subarray(5)));
  }
}

// Outgoing messages.

/**
 * Sends one message: its kind, then what `fill` writes. Returns false if the outbox is full or the
 * session is over.
 */
function send(kind, length, fill) {
  const view = new DataView(new ArrayBuffer(1 + length));
  view.setUint8(0, kind);
  fill(view);
  try {
    session.send(view);
    return true;
  } catch {
    return false;
  }
}

let numbersDue = 0;
let lastNumbers = performance.now();

function sendNumbers() {
  const now = performance.now();
  // A page that slept sends at most one second's worth of numbers.
  numbersDue = Math.min(numbersDue + ((now - lastNumbers) / 1000) * RATE, RATE);
  lastNumbers = now;
  if (nextUp === undefined) return;
  for (; numbersDue >= 1; numbersDue -= 1) {
    if (!send(NUMBER, 8, (view) => view.setBigUint64(1, BigInt(nextUp), true))) return;
    nextUp += 1;
  }
}
setInterval(sendNumbers, 20);

// State kept by the server.

function start(nextDown, nextFromPage, pageLoads) {
  if (nextUp !== undefined) return;
  down.startAt(nextDown);
  nextUp = nextFromPage;
  documents = pageLoads;
  $("documents").textContent = documents === 1 ? "This is the session's first page load." : `This is page load ${documents} of the same session.`;
}

function showKept(keptValue, keptNote) {
  if (nextUp === undefined) return;
  if (demo.readyAt === undefined) {
    demo.readyAt = performance.now();
    $("note").value = keptNote;
    $("note").disabled = false;
  }
  [value, note] = [keptValue, keptNote];
  $("value").textContent = value;
  $("note-state").textContent = note === "" ? "" : note === $("note").value ? "kept on the server" : "…";
}

const add = (amount) => send(ADD, 4, (view) => view.setInt32(1, amount, true));
$("add").onclick = () => add(1);

function setNote(text) {
  const bytes = new TextEncoder().encode(text);
  $("note").value = text;
  $("note-state").textContent = "…";
  return send(NOTE, bytes.length, (view) => new Uint8Array(view.buffer).set(bytes, 1));
}
$("note").oninput = () => setNote($("note").value);

// Clicks.

const clicksOut = new Map();
const clickChart = new ClickChart($("clicks"));
/** Starts at a random number, because the session may still answer a click from before a reload. */
let nextClick = crypto.getRandomValues(new Uint32Array(1))[0];
let lastClick;

/** Resolves to the round trip in milliseconds. A cut delays it until the connection is back. */
function click() {
  const id = nextClick;
  nextClick = (nextClick + 1) >>> 0;
  return new Promise((resolve, reject) => {
    clicksOut.set(id, { sent: performance.now(), resolve });
    if (send(CLICK, 4, (view) => view.setUint32(1, id, true))) return;
    clicksOut.delete(id);
    reject(new Error("not accepted"));
  });
}

function answerClick(id) {
  const out = clicksOut.get(id);
  if (out === undefined) return;
  clicksOut.delete(id);
  lastClick = performance.now() - out.sent;
  clickChart.click(lastClick, transfer !== undefined);
  transfer?.clicks.push(lastClick);
  out.resolve(lastClick);
}

$("click").onclick = () => void click().catch(() => {});
setInterval(() => {
  if (clicksOut.size === 0) $("click").onclick();
}, 250);

// Transfers of 20 MB.

/** The current transfer. */
let transfer;

/**
 * Computes FNV-1a (32 bits) over words instead of bytes; `checksum` continues an earlier result.
 */
function checksumOf(words, checksum = 0x811c9dc5) {
  for (let i = 0; i < words.length; i += 1) checksum = Math.imul(checksum ^ words[i], 0x01000193);
  return checksum >>> 0;
}

async function transferring(what, begin) {
  if (transfer !== undefined) throw new Error("a transfer is already running");
  const started = performance.now();
  for (const id of ["upload", "download"]) $(id).disabled = true;
  let giveUp;
  const over = new Promise((_, reject) => (giveUp = reject));
  transfer = { clicks: [], uploaded: () => {}, chunk: () => {}, giveUp };
  try {
    const { ok, bytes } = await Promise.race([begin(transfer), over]);
    const milliseconds = performance.now() - started;
    const slowestClick = Math.max(...transfer.clicks, 0);
    const text = `${what}: ${bytes / 1e6} MB in ${seconds(milliseconds)}, checksum ${ok ? "correct" : "WRONG"}`;
    showTransfer(1, slowestClick === 0 ? text : `${text}. Slowest click during the transfer: ${short(slowestClick)}.`);
    log(text, ok ? "good" : "bad");
    return { ok, bytes, milliseconds, slowestClick };
  } catch (error) {
    showTransfer(0, `${what}: ${error.message}`);
    throw error;
  } finally {
    transfer = undefined;
    const off = isOver(session.status);
    for (const id of ["upload", "download"]) $(id).disabled = off;
  }
}

function showTransfer(fraction, text) {
  $("transfer").value = fraction;
  $("transfer-text").textContent = text;
}

/** Sends one message of 20 MB on the bulk lane. The session's message limit is raised for it. */
const upload = (bytes = TRANSFER_BYTES) => transferring("Upload", async (transfer) => {
  showTransfer(0, "Upload: preparing the data");
  const message = new ArrayBuffer(8 + bytes);
  const words = new Uint32Array(message, 8);
  let checksum, word = crypto.getRandomValues(new Uint32Array(1))[0] | 1;
  for (let start = 0; start < words.length; start += 250_000) {
    const slice = words.subarray(start, start + 250_000);
    for (let i = 0; i < slice.length; i += 1) {
      word ^= word << 13;
      word ^= word >>> 17;
      word ^= word << 5;
      slice[i] = word;
    }
    checksum = checksumOf(slice, checksum);
    await sleep(0);
  }
  const header = new DataView(message);
  header.setUint8(0, UPLOAD);
  header.setUint32(4, checksum, true);

  const answer = new Promise((resolve) => (transfer.uploaded = resolve));
  session.sendBulk(message);
  const progress = setInterval(() => {
    const done = Math.max(bytes - session.bufferedAmount("bulk"), 0);
    showTransfer(done / bytes, `Upload: ${megabytes(done)} of ${megabytes(bytes)} MB received`);
  }, 50);
  try {
    const server = await answer;
    return { ok: server.bytes === bytes && server.checksum === checksum, bytes };
  } finally {
    clearInterval(progress);
  }
});

/** Receives messages of 1 MB on the bulk lane, so that the page can show progress. */
const download = (bytes = TRANSFER_BYTES) => transferring("Download", (transfer) => new Promise((resolve, reject) => {
  let arrived = 0, checksum, ok = true;
  transfer.chunk = (data) => {
    const words = new Uint32Array(data.buffer, 8);
    checksum = checksumOf(words, checksum);
    ok &&= checksum === new DataView(data.buffer, data.byteOffset).getUint32(4, true);
    arrived += words.byteLength;
    showTransfer(arrived / bytes, `Download: ${megabytes(arrived)} of ${megabytes(bytes)} MB`);
    if (arrived >= bytes) resolve({ ok: ok && arrived === bytes, bytes: arrived });
  };
  showTransfer(0, "Download: requested");
  if (!send(DOWNLOAD, 4, (view) => view.setUint32(1, bytes, true))) reject(new Error("not accepted"));
}));

$("upload").onclick = () => void upload().catch(() => {});
$("download").onclick = () => void download().catch(() => {});

// Breaking the connection.

const FAULTS = {
  reset: { mark: "plug pulled", told: "You pulled the plug" },
  silence: { mark: "silent", told: "The connection went silent" },
  stall: { mark: "stalled", told: "Everything stalls for 10 s" },
  drain: { mark: "drained", told: "You asked the server to drain this session" },
};

/** Asks the proxy, in a separate request, to inject this fault into the page's connection. */
async function fault(kind) {
  const now = performance.now();
  log(FAULTS[kind].told, "out");
  const response = await fetch(`/fault/${session.id}/${kind}`, { method: "POST" });
  if (!response.ok) {
    const why = await response.text();
    log(why, "bad");
    throw new Error(why);
  }
  chart.mark(now, FAULTS[kind].mark);
  if (kind === "silence" || kind === "stall") chart.cutOff(now);
}

for (const button of document.querySelectorAll("[data-fault]")) {
  button.onclick = async () => {
    button.classList.add("done");
    await fault(button.dataset.fault).catch(() => {});
    await sleep(600);
    button.classList.remove("done");
  };
}

// The kind of connection in use.

const NOT_NOW = "not available: the proxy in front of the server breaks WebSockets, and this page uses HTTP requests";
const CARRIERS = {
  websocket: ["a WebSocket", "a proxy in front of the server does this to the page's real TCP connection"],
  streamed: ["HTTP requests (streamed)", NOT_NOW],
  polled: ["HTTP requests (polled)", NOT_NOW],
  webrtc: ["a WebRTC data channel", "the server does this to its end of the page's real data channel"],
};

let carrier;

/** Shows the kind, which may change with every connection. */
function showCarrier() {
  const [name, breaking] = CARRIERS[session.connection];
  if (name !== carrier) log(`Connected over ${name}`);
  carrier = name;
  setText("carrier", name);
  setText("breaking", breaking);
}

// Status.

const TITLES = {
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  paused: "Paused",
  refused: "Refused",
  ended: "Session over",
};

let state = "connecting";
let lostAt;
let roundTrip;

const isOver = ({ state }) => state === "ended" || state === "refused";

function takeStatus(status) {
  const before = state;
  state = status.state;
  const now = performance.now();
  if (state === "connected" && before !== "connected") {
    outcomes.push(status.outcome);
    demo.welcomedAt ??= now;
    chart.back(now);
    showCarrier();
    if (status.outcome === "resumed") log(`Resumed${lostAt === undefined ? "" : ` after ${seconds(now - lostAt)}`}: nothing lost`, "good");
    else if (status.outcome === "restored") log("Restored: a new page load, the same session", "good");
    else log("Opened: a new session", "good");
    lastHeard = now;
  }
  if (state !== "connected" && before === "connected") {
    lostAt = now;
    roundTrip = undefined;
    chart.cutOff(now);
    if (state === "reconnecting") {
      cuts += 1;
      log(`Connection lost (${describe(status)})`, "out");
    }
  }
  if (state !== before && (state === "ended" || state === "refused")) {
    outcomes.push(state);
    log(`${TITLES[state]}: ${describe(status)}`, "bad");
  }
  if (isOver(status)) stopControls();
  $("session-id").textContent = session.id || "none";
  showStatus();
}

const isSilent = (now) => now - lastHeard > SILENT_AFTER;
/** Returns the seconds until the next attempt; undefined if none is scheduled. */
const untilRetry = ({ retryAt }) => (retryAt === null || retryAt <= Date.now() ? undefined : (retryAt - Date.now()) / 1000);
const describe = ({ code, reason, text }) => [code, reason, text].filter((part) => part).join(", ") || "no reason given";

/** Also runs every 100 ms, for the countdown and because no event reports silence. */
function showStatus() {
  const status = session.status;
  let title = TITLES[status.state] ?? status.state, outcome = "", detail = "", shown = status.state;
  const now = performance.now();
  if (status.state === "connected" && isSilent(now)) {
    [title, detail, shown] = ["Nothing received", `for ${((now - lastHeard) / 1000).toFixed(1)} s`, "silent"];
  } else if (status.state === "connected") {
    outcome = status.outcome ?? "";
    detail = roundTrip === undefined ? "" : `ping ${short(roundTrip)}`;
  } else if (isOver(status)) {
    detail = status.reason;
    showOver(status);
  } else if (untilRetry(status) !== undefined) {
    detail = `${status.reason && `${status.reason}: `}next attempt in ${untilRetry(status).toFixed(1)} s`;
  }
  $("status").dataset.state = shown;
  setText("status-title", title);
  setText("status-outcome", outcome);
  setText("status-detail", detail);
}

const ENDS = {
  Draining: ["The server drained this session.", "It ended the session on purpose, as it does before a deploy, and told this page why. The page keeps what it shows but receives nothing more."],
  Superseded: ["This session was opened elsewhere.", "Another page has taken it over. This page no longer updates."],
  Unknown: ["This session is gone.", "The server no longer has it: the server was restarted, or this page was disconnected for too long. A new session starts from 0."],
};
const NO_ROOM = "The server has no room for a new session.";

function showOver(status) {
  const { outcome, reason, unacknowledged } = status;
  const [title, text] = outcome === null ? [NO_ROOM, `The server says: ${describe(status)}.`]
    : ENDS[reason] ?? ["This session is over.", `The server says: ${describe(status)}.`];
  const late = unacknowledged === 0 ? "" : ` ${figure(unacknowledged)} ${unacknowledged === 1 ? "message" : "messages"} from this page did not arrive.`;
  const wait = untilRetry(status);
  $("over").hidden = false;
  setText("over-title", title);
  setText("over-text", `${text}${late}${wait === undefined ? "" : ` The server asks this page to wait ${Math.ceil(wait)} s.`}`);
}

function stopControls() {
  for (const control of document.querySelectorAll("main button:not(#over-reload), #note")) control.disabled = true;
  transfer?.giveUp(new Error("the session is over"));
}
$("over-reload").onclick = () => location.reload();

let pinging = false;
setInterval(async () => {
  if (pinging || session.status.state !== "connected") return;
  pinging = true;
  try {
    roundTrip = await Promise.race([session.ping(), sleep(5_000)]);
  } catch {
    roundTrip = undefined;
  }
  pinging = false;
}, 1_000);

// Counts on the page.

const chart = new StreamChart($("chart"));
const rates = { down: 0, up: 0 };

// The server's clock starts with the session. The fastest report gives the best estimate of its
// offset from the page's clock.
let clockOffset = Infinity;
let lastReport;

function takeReport(elapsed, counts) {
  Object.assign(up, counts);
  clockOffset = Math.min(clockOffset, performance.now() - elapsed);
  if (lastReport !== undefined && elapsed > lastReport.elapsed) {
    const duration = elapsed - lastReport.elapsed;
    const received = counts.received - lastReport.received;
    chart.sample("up", elapsed + clockOffset, duration, received);
    rates.up = (1000 * received) / duration;
  }
  lastReport = { elapsed, received: counts.received };
}

let lastDown = { time: performance.now(), received: 0 };
setInterval(() => {
  const time = performance.now();
  const duration = time - lastDown.time;
  const received = down.received - lastDown.received;
  chart.sample("down", time, duration, received);
  rates.down = (1000 * received) / duration;
  if (isSilent(time) || isOver(session.status)) rates.up = 0;
  lastDown = { time, received: down.received };
}, 500);

const seconds = (milliseconds) => (milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`);
const short = (milliseconds) => (milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : seconds(milliseconds));
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const figure = (number) => number.toLocaleString("en");

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function showCounts(stream, counts) {
  setText(`${stream}-received`, figure(counts.received));
  for (const [name, count] of [["missing", counts.missing], ["doubled", counts.doubled], ["out-of-order", counts.outOfOrder]]) {
    setText(`${stream}-${name}`, figure(count));
    $(`${stream}-${name}`).parentElement.classList.toggle("bad", count !== 0);
  }
}

function show() {
  showCounts("down", down);
  showCounts("up", up);
  setText("down-rate", `${figure(Math.round(rates.down))} a second`);
  const waiting = nextUp === undefined || isOver(session.status) ? 0 : session.bufferedAmount("interactive");
  const kilobytes = waiting < 20_000 ? "" : `, ${figure(Math.round(waiting / 1000))} kB waiting`;
  setText("up-rate", `${figure(Math.round(rates.up))} a second${kilobytes}`);
  const faults = [
    [down.missing + up.missing, "missing"],
    [down.doubled + up.doubled, "duplicated"],
    [down.outOfOrder + up.outOfOrder, "out of order"],
  ].filter(([count]) => count !== 0);
  const { outcome, unacknowledged } = session.status;
  const isCutShort = isOver(session.status) && (outcome === null || unacknowledged > 0);
  const [verdict, words] = faults.length > 0 ? ["bad", `${faults.map(([count, what]) => `${figure(count)} ${what}`).join(", ")}.`]
    : isCutShort ? ["over", outcome === null ? "No session." : "Then the session ended."]
    : ["good", "Nothing lost."];
  $("verdict").dataset.verdict = verdict;
  setText("total", figure(down.received + up.received));
  setText("cuts-part", `, ${figure(cuts)}\u00a0${cuts === 1 ? "cut" : "cuts"}`);
  setText("verdict-words", words);
  setText("click-time", lastClick === undefined ? "…" : short(lastClick));
  showStatus();
}
setInterval(show, 100);

// Draws 30 frames a second while the page is visible.
let lastPicture = 0;
requestAnimationFrame(function picture(now) {
  requestAnimationFrame(picture);
  if (now - lastPicture < 30) return;
  lastPicture = now;
  chart.draw(performance.now());
  clickChart.draw();
});

function log(text, kind = "") {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString("en-GB");
  const words = document.createElement("span");
  words.className = kind;
  words.textContent = text;
  item.append(time, words);
  $("log").prepend(item);
  while ($("log").children.length > 100) $("log").lastChild.remove();
}

addEventListener("pageshow", (event) => {
  if (event.persisted) log("The page came back from the back/forward cache");
});

// Access for tests.

/** Live values for tests. Times are on the clock of performance.now(). */
const demo = {
  session,
  outcomes,
  welcomedAt: undefined,
  readyAt: undefined,
  get counts() {
    const { received, missing, doubled, outOfOrder } = down;
    return { down: { received, missing, doubled, outOfOrder }, up: { ...up } };
  },
  get sent() { return nextUp === undefined ? 0 : nextUp - 1; },
  get cuts() { return cuts; },
  get value() { return value; },
  get note() { return note; },
  get documents() { return documents; },
  get status() { return session.status; },
  get roundTrip() { return roundTrip; },
  get lastClick() { return lastClick; },
  add, setNote, click, upload, download, fault,
};
window.demo = demo;

// The counts belong to one session. When it is over, the page says so, and its button opens another
// one.
const { renew } = session;
session.renew = (status) => status.outcome === null && renew(status);
session.onstatus = takeStatus;
takeStatus(session.status);
session.onmessage = takeMessage;
