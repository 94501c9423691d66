// The shell: pages by the address, keys, jobs, and what is wrong with the server.

import { bus, get, isNews, listen, send, server, takeToken } from "./api.js";
import { el, printable, say, state } from "./dom.js";
import { ClustersPage } from "./clusters.js";
import { DuplicatesPage } from "./duplicates.js";
import { ImagesPage } from "./images.js";
import { MapPage } from "./map.js";
import { OddPage } from "./odd.js";

const PAGES = { images: ["Images", ImagesPage], clusters: ["Clusters", ClustersPage], duplicates: ["Duplicates", DuplicatesPage],
  odd: ["Odd", OddPage], map: ["Map", MapPage] };
const KEYS = [
  ["arrows, h j k l", "move"], ["Enter", "large picture"], ["x, Space", "select"], ["Shift + arrows, Home, End", "select a range"],
  ["f", "similar images"], ["t", "tag the selection"], ["/", "condition"], ["n", "name a cluster"],
  ["m", "merge clusters, move images to a cluster"], ["u", "undo"], ["Esc", "clear, close"],
  ["1 … 9", "duplicates: keep that one"], ["a", "duplicates: keep as proposed"], ["b", "duplicates: keep all"],
  ["s", "duplicates: skip"], ["Space", "duplicates: blink"], ["z", "duplicates: 1:1"],
  ["f", "odd: it is fine"], ["o", "odd: it is odd"], ["s", "odd: similar images"],
  ["+, -, 0", "map: zoom, all of it"], ["o, Shift + drag", "map: lasso"], ["?", "this list"],
];
const KEYS_OFF = "imgindex-keys-off";
const content = document.getElementById("content");
const banner = document.getElementById("banner");
const jobLine = document.getElementById("job");
let page = null, name = "";

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return [path in PAGES ? path : "images", Object.fromEntries(new URLSearchParams(query))];
}

function go(to, query) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(given).toString();
  const hash = `#/${to}${text ? `?${text}` : ""}`;
  if (location.hash === hash) show();
  else location.hash = hash;
}

function show() {
  const [to, query] = place();
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === to) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${PAGES[to][0]} – imgindex`;
  document.getElementById("title").textContent = PAGES[to][0];
  if (to !== name) {
    page?.close();
    name = to;
    content.className = `page-${to}`;
    page = new PAGES[to][1](content, { go, problem });
  }
  page.open(query);
}

function warn(text, hint, action) {
  banner.replaceChildren(el("span", {}, printable(text)), ...(hint ? [el("span.hint", {}, ` ${printable(hint)} `)] : []),
    action ?? el("button", { type: "button", onclick: () => { banner.hidden = true; } }, "Close"));
  banner.hidden = false;
}

function problem(error) {
  if (!error || error.name === "AbortError" || error.status === 0 || error.status === 401) return;
  if (error.status === 412) warn("The index has changed meanwhile.", "Look again, and repeat what you did.");
  else warn(error.message, error.hint);
}

let lost = false;
bus.addEventListener("lost", () => {
  lost = true;
  warn("The server does not answer.", "Trying again…", el("span"));
  document.body.classList.add("lost");
});
bus.addEventListener("found", () => {
  document.body.classList.remove("lost");
  if (lost) {
    lost = false;
    banner.hidden = true;
    show();
  }
});
bus.addEventListener("unauthorized", () => {
  sessionStorage.clear();
  locked();
});
// The tag of an event may be older than that of a change which was answered meanwhile.
bus.addEventListener("commit", async (event) => {
  if (!isNews(event.detail.etag)) return;
  await get("/tags").catch(() => {});
  bus.dispatchEvent(new Event("changed"));
});
bus.addEventListener("job", (event) => {
  const job = event.detail;
  if (job.state !== "running" && job.state !== "queued") {
    jobLine.replaceChildren();
    if (job.state === "failed" && job.kind === "add") problem({ message: job.problem.detail, hint: job.problem.hint });
    return;
  }
  const { stage, done, total } = job.progress || { stage: job.state, done: 0, total: 0 };
  const part = total ? ` ${Math.round((100 * done) / total)} %` : "";
  jobLine.replaceChildren(el("span", {}, `${job.kind}: ${stage}${part}`),
    el("button", { type: "button", "aria-label": `Cancel ${job.kind}`, onclick: () => send("DELETE", `/jobs/${job.id}`).catch(problem) }, "×"));
});

function locked() {
  page?.close();
  page = null;
  name = "";
  banner.hidden = true;
  content.replaceChildren(state("This address has no valid token",
    el("p", {}, "Open the address that “imgindex serve” printed when it started. It has a new token in each run.")));
}

function helpDialog() {
  const off = el("input", { type: "checkbox", checked: localStorage.getItem(KEYS_OFF) === "1", onchange: () => {
    localStorage.setItem(KEYS_OFF, off.checked ? "1" : "0");
  } });
  const dialog = el("dialog.keys", { "aria-label": "Keys", onclose: () => dialog.remove() }, el("h2", {}, "Keys"),
    el("dl", {}, ...KEYS.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)])),
    el("label", {}, off, " no single keys"),
    el("button", { type: "button", onclick: () => dialog.close() }, "Close"));
  document.body.append(dialog);
  dialog.showModal();
}

document.getElementById("help").addEventListener("click", helpDialog);
document.addEventListener("keydown", (event) => {
  const inField = event.target.closest("input, select, textarea, dialog");
  if (event.key === "Escape" && inField && !inField.matches("dialog")) {
    event.target.blur();
    return;
  }
  if (inField || event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem(KEYS_OFF) === "1") return;
  // A button or a link that has the focus is pressed by these keys.
  if ([" ", "Enter"].includes(event.key) && event.target.closest("button, a")) return;
  if (event.key === "?") helpDialog();
  else if (!page?.key(event)) return;
  event.preventDefault();
});
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) start();
  else if (page) show();
});

async function start() {
  if (!takeToken()) {
    locked();
    return;
  }
  document.getElementById("nav").replaceChildren(...Object.entries(PAGES).map(([to, [title]]) =>
    el("a", { href: `#/${to}`, "data-page": to }, title)));
  try {
    const info = await get("/server");
    [server.readOnly, server.index] = [info.read_only, info.index];
    document.body.classList.toggle("read-only", info.read_only);
    show();
    if (info.read_only) say("This server changes nothing");
  } catch (error) {
    if (error.status !== 401) content.replaceChildren(state(printable(error.message)));
  }
  listen();
}

start();
