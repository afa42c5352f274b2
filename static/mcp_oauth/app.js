// Improves pages that work without it: connecting in a popup, doing things where one is, re-reading the list, filtering.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const words = $("#words")?.dataset ?? {};
const list = $("#servers");
const POPUP = "mcp-connect-";
const MARK = "mcp-oauth:popup";

const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
const cardOf = (element) => element?.closest("[data-server]");

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
    if (!time.matches("[data-ago], [data-in]")) continue;
    const seconds = (Date.now() - at) / 1000;
    const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? [];
    time.textContent = unit ? relative.format(-Math.trunc(seconds / size), unit) : words.now;
  }
}

/* The list: re-read from the server, which alone knows the truth. */

let lastRead = Date.now();
let reading = null;
// Other tabs of this browser: whoever changes something says so, whoever shows a list looks again.
const changes = new BroadcastChannel("mcp-oauth:changes");
changes.addEventListener("message", () => { lastRead = 0; look(); });

function waiting() {
  return channels.size > 0 || Boolean($("[data-server][data-flow], [data-server][data-soon]"));
}

// What a row says, without the words of its times, which change by themselves, and what was added here.
const said = (row) => row.outerHTML.replace(/<time[^>]*>[^<]*/g, (time) => time.split('"')[1]).replace(/ hidden=""| open=""/g, "");

function replaceList(fresh) {
  const open = $$("details[open][id]", list).map((details) => details.id);
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  const card = cardOf(held)?.dataset.server;
  const before = new Map($$("[data-server]", list).map((row) => [row.id, row]));
  for (const row of $$("[data-server]", fresh)) {
    const old = before.get(row.id);
    if (!old) continue;
    const alert = $(".alert", old);
    alert?.remove();
    // A row that says the same stays the element it is: what is open in it, and where it is, stays as well.
    if (said(old) === said(row)) row.replaceWith(old);
    if (!alert || !$("[data-connect]", document.contains(old) ? old : row)) continue;
    alert.removeAttribute("role"); // it was spoken once
    (row.isConnected ? row : old).append(alert);
  }
  list.replaceChildren(...fresh.childNodes);
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (held && document.activeElement !== held) {
    const target = (held.id && document.getElementById(held.id)) || (card && document.getElementById(`name-${card}`));
    target?.focus({ preventScroll: true });
  }
  $$("input[data-filter]").forEach(filter);
  tellTimes(list);
  listenForOpenFlows();
}

function listUrl() {
  const url = new URL(list.dataset.refreshUrl, location.href);
  const sort = $("#sort")?.value;
  if (sort) url.searchParams.set("sort", sort);
  return url; // the whole list: search and state narrow it here
}

let latest = null;
const reread = () => (latest = readList());

async function readList() {
  if (!list?.dataset.refreshUrl) return;
  reading?.abort();
  const mine = (reading = new AbortController());
  try {
    const response = await fetch(listUrl(), { headers: { Accept: "text/html" }, cache: "no-store", signal: mine.signal });
    if (response.redirected) return location.reload(); // signed out meanwhile
    const html = await response.text();
    if (mine.signal.aborted) return latest;
    if (!response.ok) return;
    lastRead = Date.now();
    replaceList(parsed(html).body);
  } catch {
    if (mine.signal.aborted) return latest; // overtaken: whoever waits, waits for the newer one
    /* offline: what is shown stays, the next look tries again */
  }
}

// A page about one server: reloaded only once its flow is over, so that nothing typed is lost.
async function recheck() {
  const response = await fetch(location.href, { cache: "no-store" });
  const fresh = parsed(await response.text());
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

/* Doing something where one is: the page that answers is the list's own, so its news are taken from it. */

async function actHere(button) {
  button.setAttribute("aria-busy", "true");
  const act = button.form;
  try {
    const body = new URLSearchParams(new FormData(act, button));
    const response = await fetch(button.formAction, { method: "POST", headers: { Accept: "text/html" }, body });
    const page = parsed(await response.text());
    const there = $("#servers", page);
    if (!response.ok) return complain(button, { message: $("main p", page)?.textContent });
    if (new URL(response.url).pathname === location.pathname && there) {
      lastRead = Date.now();
      if ($("#sort")?.selectedIndex > 0) await reread();
      else replaceList(there);
    } else if ($("input[type=password]", page)) return location.reload(); // signed out meanwhile
    else await reread();
    say($(".messages", page));
    changes.postMessage("");
  } catch {
    complain(button, { message: words.offline, next_step: words.retry });
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function say(messages) {
  const place = $(".messages");
  if (!place || !messages) return;
  place.replaceChildren(...messages.childNodes);
  $$("[data-dismiss]", place).forEach((button) => { button.hidden = false; });
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
    changes.postMessage("");
  } else if ($("[data-stay]")) {
    const onward = $("[data-continue]"); // the call that waited for this very access
    if (onward && text !== words.refused) return onward.click();
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

const contacting = (button) => words.contacting.replace("{name}", button.dataset.connect);

function complain(button, error) {
  const place = cardOf(button) || button.closest(".note") || button.parentElement;
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

function post(button, signal) {
  const body = new URLSearchParams(new FormData(button.form, button));
  return fetch(button.formAction, { method: "POST", headers: { Accept: "application/json" }, body, signal });
}

// After the connection and not within it, so that nobody waits in the popup for a slow server.
async function listTools(place) {
  const button = place?.matches("[data-server]") && $("button[data-due]", place);
  if (!list || !button) return;
  try { await post(button); } catch { /* the list says how the server is */ }
  await reread();
}

async function start(button, popup, attempt) {
  button.setAttribute("aria-busy", "true");
  $(".alert", cardOf(button) ?? button.parentElement)?.remove();
  announce(contacting(button));
  try {
    const response = await post(button, attempt.signal);
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
      complain(button, answer.error ?? {});
    }
  } catch (error) {
    if (attempt.signal.aborted) return; // pressed again: the window is the newer attempt's
    popup.close();
    complain(button, { message: words.failed, next_step: words.retry });
  } finally {
    if (attempts.get(button.value) === attempt) button.removeAttribute("aria-busy");
  }
}

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.matches("[data-here]") && list) {
    event.preventDefault();
    if (!button.matches("[aria-busy]")) actHere(button);
    return;
  }
  if (!button?.matches("[data-connect]")) return;
  // In the click itself: after an await it would be blocked. A blocked one leaves the form to the tab.
  const popup = openPopup(button.value, contacting(button));
  if (!popup) return;
  event.preventDefault();
  attempts.get(button.value)?.abort();
  const attempt = new AbortController();
  attempts.set(button.value, attempt);
  start(button, popup, attempt);
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
  for (const link of $$("a", close.parentElement)) link.hidden = true; // the way back is the window behind
}

/* Searching, states and order. */

function filter(input) {
  const root = $(input.dataset.filter);
  const wanted = input.value.trim().toLocaleLowerCase();
  const state = input.form?.elements.state?.value ?? "";
  const counted = {};
  let shown = 0;
  for (const item of $$("[data-search]", root)) {
    const hit = item.dataset.search.toLocaleLowerCase().includes(wanted);
    const states = item.dataset.states?.split(" ") ?? [];
    if (hit) for (const key of ["", ...states]) counted[key] = (counted[key] ?? 0) + 1;
    item.hidden = !hit || (state !== "" && !states.includes(state));
    shown += !item.hidden;
  }
  for (const group of $$("[data-group]", root)) {
    const left = $$("[data-search]:not([hidden])", group).length;
    group.hidden = left === 0;
    const count = $("[data-count]", group);
    if (count) count.textContent = left;
  }
  for (const number of $$("[data-number]")) number.textContent = counted[number.dataset.number] ?? 0;
  const nothing = $("[data-nothing]", root);
  if (!nothing) return;
  const before = nothing.hidden;
  nothing.hidden = shown > 0 || !(wanted || state);
  if (before && !nothing.hidden) announce(nothing.textContent);
}

function remember(form) {
  const url = new URL(location.href);
  for (const [name, value] of new FormData(form)) {
    const usual = name === "sort" && $("#sort").selectedIndex === 0;
    value && !usual ? url.searchParams.set(name, value) : url.searchParams.delete(name);
  }
  history.replaceState(history.state, "", url);
  return url;
}

for (const input of $$("input[data-filter]")) {
  const form = input.form;
  // The server sent only what matches; the whole list comes with the first change.
  let narrowed = Boolean(input.defaultValue || $("[data-state][checked]:not([value=''])", form));
  form.addEventListener("input", ({ target }) => {
    if (target.id !== "sort") filter(input);
    const url = remember(form);
    if (list && (narrowed || target.id === "sort")) reread();
    else if (narrowed && !input.value) location.assign(url);
    if (list) narrowed = false;
  });
  form.addEventListener("submit", (event) => { if (list) event.preventDefault(); });
}

/* Copying, menus, messages. */

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
  const dismiss = target.closest?.("[data-dismiss]");
  if (dismiss) dismiss.parentElement.remove();
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
if ($(".messages .note")) changes.postMessage(""); // something was just done in this tab
$$("[data-dismiss]").forEach((button) => { button.hidden = false; });
tellTimes();
setInterval(() => { if (waiting() || Date.now() - lastRead > 60000) look(); else tellTimes(); }, 15000);
listenForOpenFlows();
window.addEventListener("hashchange", openTarget);
window.addEventListener("focus", look);
document.addEventListener("visibilitychange", look);
openTarget();
