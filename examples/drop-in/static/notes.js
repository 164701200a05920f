// The notes page: shows all users' notes as they arrive, and sends the draft while it is typed.

const { session } = window.stillhere;
const $ = (id) => document.getElementById(id);

const say = (message) => session.send(new TextEncoder().encode(JSON.stringify(message)));

session.onmessage = (data) => {
  const { draft, notes } = JSON.parse(new TextDecoder().decode(data));
  if (draft !== undefined) showDraft(draft);
  if (notes !== undefined) showNotes(notes);
};

function showDraft(draft) {
  $("draft").value = draft;
  $("draft").disabled = $("add").disabled = false;
}

function showNotes(notes) {
  $("none").hidden = notes.length > 0;
  $("notes").replaceChildren(...notes.reverse().map(({ by, text }) => {
    const note = document.createElement("li");
    const author = document.createElement("b");
    const words = document.createElement("p");
    [author.textContent, words.textContent] = [by, text];
    note.append(author, words);
    return note;
  }));
}

$("draft").oninput = () => say({ draft: $("draft").value });

$("new").onsubmit = (event) => {
  event.preventDefault();
  say("add");
  $("draft").value = "";
  $("draft").focus();
};

const NAMES = { connecting: "Connecting", connected: "Live", reconnecting: "Reconnecting", paused: "Paused", refused: "Not connected", ended: "Ended" };

function showStatus({ state, text }) {
  $("status").dataset.state = state;
  $("status").textContent = NAMES[state];
  if (state !== "ended" && state !== "refused") return;
  const isLoggedOut = text === "logged out";
  if (isLoggedOut) $("status").textContent = "Logged out";
  $("user").hidden = isLoggedOut;
  $("over").hidden = false;
  $("over-text").textContent = isLoggedOut ? "You have been logged out." : `This page is no longer live: ${text || "the session is over"}.`;
  $("over-link").textContent = isLoggedOut ? "Log in" : "Reload";
  $("draft").disabled = $("add").disabled = true;
}

session.onstatus = showStatus;
showStatus(session.status);
