// Improves pages that work without it: connecting in a popup, re-reading the list, filtering, copying.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const words = $("#words")?.dataset ?? {};
const list = $("#servers");
const POPUP = "mcp-connect-";
const MARK = "mcp-oauth:popup";

function announce(text) {
  const region = $("#announcer");
  if (!region || !text) return;
  region.textContent = "";
  // The empty moment lets a screen reader speak the same words twice in a row.
  setTimeout(() => { region.textContent = text; }, 60);
}

/* Times, in the reader's own language and zone. */

const language = document.documentElement.lang || undefined;
const relative = new Intl.RelativeTimeFormat(language, { numeric: "always" });
const UNITS = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60]];

function tellTimes(root = document) {
  for (const time of $$("time[datetime]", root)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = at.toLocaleString(language);
    if (!time.matches("[data-ago]")) continue;
    const seconds = (Date.now() - at) / 1000;
    const [unit, size] = UNITS.find(([, length]) => seconds >= length) ?? [];
    time.textContent = unit ? relative.format(-Math.floor(seconds / size), unit) : words.now;
  }
}

/* The list: re-read from the server, which alone knows the truth. */

let lastRead = Date.now();
let reading = null;

function waiting() {
  return channels.size > 0 || Boolean($("[data-server][data-flow]"));
}

function replaceList(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const open = $$("details[open][id]", list).map((details) => details.id);
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  const card = held?.closest("[data-server]")?.dataset.server;
  const alerts = $$(".alert", list).map((alert) => [alert.closest("[data-server]").id, alert]);
  list.replaceChildren(...fresh.body.childNodes);
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  for (const [id, alert] of alerts) {
    const place = document.getElementById(id);
    if (!place || !$("[data-connect]", place)) continue;
    alert.removeAttribute("role"); // it was spoken once
    $(".words", place).append(alert);
  }
  if (held) {
    const target = (held.id && document.getElementById(held.id)) || (card && document.getElementById(`name-${card}`));
    target?.focus({ preventScroll: true });
  }
  $$("input[data-filter]").forEach(filter);
  tellTimes(list);
  listenForOpenFlows();
}

async function reread() {
  if (!list?.dataset.refreshUrl) return;
  const url = new URL(list.dataset.refreshUrl, location.href);
  url.searchParams.delete("q"); // the whole list: the search box filters it here
  reading?.abort();
  const mine = (reading = new AbortController());
  try {
    const response = await fetch(url, { headers: { Accept: "text/html" }, cache: "no-store", signal: mine.signal });
    if (response.redirected) return location.reload(); // signed out meanwhile
    const html = await response.text();
    if (!response.ok || mine.signal.aborted) return;
    lastRead = Date.now();
    replaceList(html);
  } catch { /* offline or overtaken: what is shown stays, the next focus tries again */ }
}

// A page about one server: reloaded only once its flow is over, so that nothing typed is lost.
async function recheck() {
  const response = await fetch(location.href, { cache: "no-store" });
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (response.ok && !$("[data-server][data-flow]", fresh)) location.reload();
}

function look() {
  if (document.visibilityState !== "visible") return;
  tellTimes();
  const age = Date.now() - lastRead;
  if (age > 20000 || (age > 1000 && waiting())) {
    lastRead = Date.now();
    if (list) reread();
    else if (waiting() && !$("[data-stay]")) recheck().catch(() => {});
  }
}

/* Connecting. */

const channels = new Map();
const attempts = new Map();

function listen(flow) {
  if (!flow || channels.has(flow)) return;
  const channel = new BroadcastChannel(`mcp-oauth:${flow}`);
  channels.set(flow, channel);
  channel.addEventListener("message", ({ data }) => {
    if (data?.flow !== flow) return;
    channel.close();
    channels.delete(flow);
    settled(data.outcome === "connected" ? words.connected : words.refused)
      .then(() => listTools(document.getElementById(`server-${data.server}`)));
  });
}

function listenForOpenFlows() {
  $$("[data-server][data-flow]").forEach((element) => listen(element.dataset.flow));
}

async function settled(text) {
  if (list) {
    await reread();
    announce(text);
  } else if ($("[data-stay]")) {
    // This page is the answer to a POST: reloading it would run the tool again.
    const note = document.createElement("div");
    note.className = "block note";
    note.textContent = text === words.refused ? text : words.again;
    $("[data-stay]").replaceChildren(note);
    announce(note.textContent);
  } else {
    location.reload();
  }
}

function openPopup(server, text) {
  const name = POPUP + server;
  let features = "";
  if (window.innerWidth >= 700) {
    const height = Math.min(760, screen.availHeight);
    const left = Math.round(window.screenX + (window.outerWidth - 560) / 2);
    const top = Math.round(window.screenY + (window.outerHeight - height) / 2);
    features = `popup,width=560,height=${height},left=${left},top=${Math.max(0, top)}`;
  }
  const popup = window.open("about:blank", name, features);
  if (!popup) return null;
  try {
    // The window loses its name on the way through another origin, but not its session storage.
    popup.sessionStorage.setItem(MARK, server);
    const page = popup.document;
    page.title = text;
    const sheet = page.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = $("link[rel=stylesheet]").href;
    page.head.append(sheet);
    page.body.className = "bare";
    const line = page.createElement("p");
    line.textContent = text;
    page.body.replaceChildren(line);
  } catch { /* it still shows another origin and is about to be sent on */ }
  popup.focus();
  return popup;
}

function complain(form, error) {
  const card = form.closest("[data-server]");
  const place = (card && $(".words", card)) || form.closest(".note") || form.parentElement;
  $(".alert", place)?.remove();
  const alert = document.createElement("div");
  alert.className = "alert";
  alert.setAttribute("role", "alert");
  const message = document.createElement("strong");
  message.textContent = error.message || words.failed;
  alert.append(message);
  if (error.next_step) alert.append(error.next_step);
  place.append(alert);
}

function destination(text) {
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:") throw new TypeError("not a web address");
  return url.href;
}

function post(form, signal) {
  const body = new URLSearchParams(new FormData(form));
  return fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body, signal });
}

// After the connection and not within it, so that nobody waits in the popup for a slow server.
async function listTools(place) {
  const form = place && $("form[data-refresh=due]", place);
  if (!list || !form) return;
  try { await post(form); } catch { /* the list says how the server is */ }
  await reread();
}

async function start(form, popup, attempt) {
  const button = $("button", form);
  button.setAttribute("aria-busy", "true");
  $(".alert", form.closest("[data-server]") ?? form)?.remove();
  announce(form.dataset.contacting);
  try {
    const response = await post(form, attempt.signal);
    const answer = await response.json();
    if (answer.status === "redirect") {
      const url = destination(answer.authorization_url);
      listen(answer.flow);
      popup.location = url;
      announce(words.waiting);
      if (list) await reread();
    } else if (answer.status === "already_authorized") {
      popup.close();
      await settled(words.current);
    } else {
      popup.close();
      if (answer.error?.code === "not_signed_in") return location.reload();
      complain(form, answer.error ?? {});
    }
  } catch (error) {
    if (attempt.signal.aborted) return; // pressed again: the window is the newer attempt's
    popup.close();
    complain(form, { message: words.failed, next_step: words.retry });
  } finally {
    if (attempts.get(form.elements.server.value) === attempt) button.removeAttribute("aria-busy");
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form[data-connect]")) return;
  const server = form.elements.server.value;
  // In the click itself: after an await it would be blocked. A blocked one leaves the form to the tab.
  const popup = openPopup(server, form.dataset.contacting);
  if (!popup) return;
  event.preventDefault();
  attempts.get(server)?.abort();
  const attempt = new AbortController();
  attempts.set(server, attempt);
  start(form, popup, attempt);
});

/* Back. */

function reportBack(main) {
  const { flow, server, outcome } = main.dataset;
  if (flow) new BroadcastChannel(`mcp-oauth:${flow}`).postMessage({ flow, server, outcome });
  if (!window.name.startsWith(POPUP) && !sessionStorage.getItem(MARK)) return;
  if (outcome === "connected") setTimeout(() => window.close(), 150);
  const close = $("[data-close]", main);
  close.hidden = false;
  close.addEventListener("click", () => window.close());
  close.nextElementSibling.hidden = true; // the way back is the window behind
}

/* Filtering, copying, menus. */

function filter(input) {
  const root = $(input.dataset.filter);
  const wanted = input.value.trim().toLocaleLowerCase();
  let shown = 0;
  for (const item of $$("[data-search]", root)) {
    const hit = item.dataset.search.toLocaleLowerCase().includes(wanted);
    item.hidden = !hit;
    shown += hit;
  }
  for (const group of $$("[data-group]", root)) {
    const left = $$("[data-search]:not([hidden])", group).length;
    group.hidden = left === 0;
    const count = $("[data-count]", group);
    if (count) count.textContent = left;
  }
  const nothing = $("[data-nothing]", root);
  if (!nothing) return;
  const before = nothing.hidden;
  nothing.hidden = shown > 0 || !wanted;
  if (before && !nothing.hidden) announce(nothing.textContent);
}

for (const input of $$("input[data-filter]")) {
  let narrowed = Boolean(input.defaultValue); // the server sent only what matches
  input.addEventListener("input", () => {
    filter(input);
    const url = new URL(location.href);
    input.value ? url.searchParams.set("q", input.value) : url.searchParams.delete("q");
    history.replaceState(history.state, "", url);
    if (!narrowed) return;
    if (list) {
      narrowed = false;
      reread();
    } else if (!input.value) {
      location.assign(url);
    }
  });
}

for (const button of $$("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  const label = button.firstChild.textContent;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    await navigator.clipboard.writeText(source.value ?? source.innerText);
    button.firstChild.textContent = button.dataset.copied;
    announce(button.dataset.copied);
    setTimeout(() => { button.firstChild.textContent = label; }, 2000);
  });
}

document.addEventListener("click", ({ target }) => {
  for (const menu of $$("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = $("details.menu[open]");
  if (menu?.contains(document.activeElement)) $("summary", menu).focus();
  if (menu) menu.open = false;
});

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
  listTools(target); // back from connecting in this tab
}

const callback = $("[data-callback]");
if (callback) reportBack(callback);
tellTimes();
setInterval(tellTimes, 30000);
listenForOpenFlows();
window.addEventListener("hashchange", openTarget);
window.addEventListener("focus", look);
document.addEventListener("visibilitychange", look);
openTarget();
