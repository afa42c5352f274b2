// Improves the page of a tool: its form changes where one is, and a call shows its progress and can be cancelled.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const area = $("#run-area");
const words = $("#words").dataset;
const LOOK_MS = 700;
const CHANGES = ["add", "remove", "switch", "show"];

let running = null;

const partUrl = (form) => {
  const url = new URL(form.action);
  url.searchParams.set("part", "run");
  return url;
};

async function send(form, body, signal) {
  const response = await fetch(partUrl(form), { method: "POST", headers: { Accept: "text/html" }, body, signal });
  if (response.redirected) return location.reload(); // signed out meanwhile
  if (!response.ok) throw new Error(response.status);
  return response.text();
}

function show(html) {
  area.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  wire();
}

/* The form changes: added, taken away, turned into JSON, shown as code. */

async function change(form, name, value) {
  const body = new URLSearchParams(new FormData(form));
  body.set(name, value);
  let html;
  form.inert = true; // what is typed into the old form meanwhile would be lost
  try { html = await send(form, body); } catch { form.inert = false; return say(words.offline); }
  if (!html) return;
  const opened = $("#copy", area)?.open;
  show(html);
  if (opened && $("#copy", area)) $("#copy", area).open = true;
  focusAfter(name, value);
}

function focusAfter(name, value) {
  if (name === "copy") return $("#copy > summary", area).focus();
  const id = `id_${value.replaceAll(".", "_")}`;
  const place = document.getElementById(name === "remove" ? id.replace(/_\d+$/, "") : id);
  const fields = (root) => $$("input:not([type=hidden]), select, textarea", root);
  if (name === "add") return (fields(place).at(-1)?.closest(".item") ?? place)?.querySelector("input:not([type=hidden]), select, textarea, button")?.focus();
  if (name === "switch") return fields($("#run", area))[0]?.focus();
  (document.getElementById(`${id}_v`) ?? place)?.focus();
}

/* A call: sent in the background, with what it tells of itself meanwhile. */

async function run(form, button) {
  const body = new URLSearchParams(new FormData(form, button));
  const waits = body.get("continue") ?? body.get("decline");
  const id = body.has("give_up") ? null : waits ?? crypto.randomUUID?.();
  if (id && !waits) body.set("call_id", id);
  const mine = (running = new AbortController());
  const pressed = button?.matches("[aria-hidden]") || !button ? $("[data-run], [name=continue]:not([aria-hidden])", form) : button;
  pressed?.setAttribute("aria-busy", "true");
  const going = $("[data-going]", form);
  const status = $("[role=status]", going);
  const bar = $("progress", going);
  const cancel = $("[data-cancel]", going);
  bar.removeAttribute("value");
  cancel.disabled = false;
  cancel.hidden = !id;
  going.hidden = false;
  status.textContent = status.dataset.says;
  cancel.onclick = () => { cancel.disabled = true; giveUp(form, id, mine); };
  const looking = id ? setInterval(() => look(id, bar, status, mine.signal), LOOK_MS) : 0;
  let html;
  try { html = await send(form, body, mine.signal); } catch { if (!mine.signal.aborted) say(words.offline); }
  clearInterval(looking);
  mine.abort();
  running = null;
  pressed?.removeAttribute("aria-busy");
  going.hidden = true;
  if (!html) return;
  show(html);
  const told = $("[data-asks]", area) ?? $("#answer", area) ?? $("[role=alert]", area) ?? $("[data-told]", area);
  if (told?.matches("[role=alert]")) told.tabIndex = -1;
  told?.focus();
  told?.scrollIntoView({ block: "nearest" });
}

async function look(id, bar, status, signal) {
  try {
    const response = await fetch(`${area.dataset.calls}${id}/`, { headers: { Accept: "application/json" }, signal });
    const { progress } = (await response.json()).call;
    if (!progress) return;
    if (progress.total > 0 && progress.progress !== null) {
      bar.max = progress.total;
      bar.value = progress.progress;
    }
    if (progress.message) status.textContent = progress.message;
  } catch { /* not written down yet, or offline: the answer itself says how it went */ }
}

async function giveUp(form, id, mine) {
  const headers = { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value };
  try { await fetch(`${area.dataset.calls}${id}/cancel/`, { method: "POST", headers, signal: mine.signal }); } catch { /* it ended by itself */ }
}

function say(text) {
  const note = document.createElement("div");
  note.className = "note bad";
  note.setAttribute("role", "alert");
  note.textContent = text;
  $("[data-stay]", area).replaceChildren(note);
}

/* What is in the page anew. */

function wire() {
  for (const button of $$("button[data-copy]", area)) {
    button.hidden = !navigator.clipboard;
    button.onclick = async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText);
      const label = button.firstChild;
      const before = label.textContent;
      label.textContent = button.dataset.copied;
      setTimeout(() => { label.textContent = before; }, 2000);
    };
  }
  const copy = $("#copy", area);
  $("#copy > summary", area)?.addEventListener("click", (event) => {
    if (copy.open) return;
    event.preventDefault();
    copy.open = true;
    change($("#run", area), "copy", "1");
  });
}

wire();
area.addEventListener("submit", (event) => {
  const form = event.target;
  const button = event.submitter;
  if (form.id !== "run") return;
  event.preventDefault();
  if (running) return;
  if (CHANGES.includes(button?.name)) change(form, button.name, button.value);
  else run(form, button);
});
area.addEventListener("change", ({ target }) => {
  if (target.matches("[data-change]")) change(target.form, "show", target.name.replace(/\.v$/, ""));
});
