// Improves the pages for adding and importing: looking on while a server is asked, and connecting at once.

const $ = (selector, root = document) => root.querySelector(selector);
const words = $("#words").dataset;
const asking = $("#asking");
const finding = $("#finding");
const LINES = "application/x-ndjson";

const parsed = (html) => [...new DOMParser().parseFromString(html, "text/html").body.childNodes];

async function post(form, button, accept, signal) {
  const body = new URLSearchParams(new FormData(form, button));
  const response = await fetch(form.action, { method: "POST", headers: { Accept: accept }, body, signal });
  if (response.redirected || response.status === 401) location.reload(); // signed out meanwhile
  return response;
}

function note(message, more = "") {
  const box = document.createElement("div");
  box.className = "note bad";
  box.setAttribute("role", "alert");
  const line = document.createElement("strong");
  line.textContent = message;
  box.append(line, more);
  return box;
}

function complain(form, ...nodes) {
  const place = $(".complaints", form);
  place.replaceChildren(...nodes);
  place.scrollIntoView({ block: "nearest" });
}

/* Asking: one line of the answer is one request, the last one the result. */

let current = null;

function show(line) {
  const list = $(".asked", asking);
  const [kind, html] = Object.entries(line)[0];
  const pending = $(".pending", list);
  if (kind === "step" && pending) return pending.replaceWith(...parsed(html));
  if (kind === "step" || kind === "asked") return list.append(...parsed(html));
  pending?.remove();
  asking.hidden = kind === "failed";
  finding.replaceChildren(...parsed(html));
  for (const button of finding.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).value);
      button.textContent = button.dataset.copied;
    });
  }
  const result = $("#result", finding);
  result?.focus({ preventScroll: true });
  result?.scrollIntoView({ block: "nearest" });
}

async function read(response, mine) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (mine.signal.aborted) return;
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const text of lines) if (text) show(JSON.parse(text));
    if (done) return;
  }
}

async function ask(form, button) {
  current?.abort();
  const mine = (current = new AbortController());
  const offer = (shown) => { for (const part of document.querySelectorAll("[data-choices]")) part.hidden = !shown; };
  button?.setAttribute("aria-busy", "true");
  $(".complaint", form)?.remove();
  $("[aria-invalid]", form)?.removeAttribute("aria-invalid");
  $(".asked", asking).replaceChildren();
  finding.replaceChildren();
  asking.hidden = false;
  offer(false);
  try {
    const response = await post(form, button, LINES, mine.signal);
    if (!response.headers.get("Content-Type").startsWith(LINES)) throw new TypeError("no lines");
    await read(response, mine);
    if (!$("#result", finding)) offer(true);
    else if (form.matches(".ask")) form.hidden = true;
  } catch {
    if (mine.signal.aborted) return; // asked again meanwhile
    asking.hidden = true;
    finding.replaceChildren(note(asking.dataset.failed, words.retry));
    offer(true);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

/* Adding and connecting in one go. The window has to open in the click itself; a blocked one leaves it to the tab. */

function openWindow(form) {
  const left = Math.round(window.screenX + (window.outerWidth - 560) / 2);
  const popup = window.open("about:blank", "mcp-connect-new", window.innerWidth < 700 ? "" : `popup,width=560,height=760,left=${left}`);
  if (!popup) return null;
  const page = popup.document;
  page.title = page.body.textContent = form.dataset.contacting;
  page.body.className = "bare";
  page.head.append($("link[rel=stylesheet]").cloneNode());
  // The window loses its name on the way through another origin, but not its session storage.
  popup.sessionStorage.setItem("mcp-oauth:popup", "new");
  return popup;
}

async function addAndConnect(form, button, popup) {
  button.setAttribute("aria-busy", "true");
  complain(form);
  try {
    const answer = await (await post(form, button, "application/json")).json();
    if (/^https?:/.test(answer.authorization_url)) popup.location = answer.authorization_url;
    else popup.close();
    if (answer.page) return location.assign(answer.page);
    complain(form, ...(answer.html ? parsed(answer.html) : [note(answer.error.message, answer.error.next_step)]));
  } catch {
    popup.close();
    complain(form, note(words.failed, words.retry));
  }
  button.removeAttribute("aria-busy");
}

/* A pasted file is looked at first, so that a mistake is told where the text still stands. */

async function lookFirst(form) {
  const answer = await post(form, null, "application/json").then((response) => response.json()).catch(() => ({}));
  if (!answer.error) return form.submit();
  complain(form, note(answer.error.message, answer.error.next_step));
  form.elements.text.focus();
}

document.addEventListener("submit", (event) => {
  const { target: form, submitter: button } = event;
  if (form.matches("[data-ask]") || (form.matches("[data-test]") && button?.name === "test")) {
    event.preventDefault();
    ask(form, button);
  } else if (form.matches("[data-add]") && button?.name === "then") {
    const popup = openWindow(form);
    if (!popup) return;
    event.preventDefault();
    addAndConnect(form, button, popup);
  } else if (form.matches("[data-look-first]")) {
    event.preventDefault();
    lookFirst(form);
  } else if (form.matches("[data-busy]") && button) {
    button.setAttribute("aria-busy", "true");
    button.textContent = form.dataset.busy;
  }
});
