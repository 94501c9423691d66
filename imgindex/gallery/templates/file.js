// A page that is a file: matches, outliers, duplicates or clusters, as `data` has them, and a filter by path.

import { clusterCard, duplicateCaption, fill, frame, ListSource, nearestCaption, outlierCaption } from "./cards.js";
import { copyButton, count, el, fileLabel, fileName, printable, say, state } from "./dom.js";
import { Large } from "./large.js";
import { data, items, known } from "./pictures.js";
import { Plane } from "./plane.js";

const PART = 120, SAMPLES = 8;
const METHODS = { pca: "PCA", pacmap: "PaCMAP", umap: "UMAP", tsne: "t-SNE" };
const content = document.getElementById("content");
const filter = document.getElementById("filter");
let text = "";

const matches = (id) => items[id].image.path.toLowerCase().includes(text);
const numbers = (number) => number.toLocaleString("en");

// The large view, which moves on among the pictures of the same list.
let opened = [];
const list = { source: new ListSource([]), focus: (at) => opened[at]?.focus(), toggle: () => {} };
const large = new Large(list, []);

function enlarge(button) {
  const container = button.closest("[data-row]") ?? content;
  opened = [...container.querySelectorAll("button.picture")].filter((one) => one.closest("[data-row]") === button.closest("[data-row]"));
  list.source = new ListSource(opened.map((one) => ({ ...items[one.dataset.id], note: one.dataset.note })));
  large.open(opened.indexOf(button));
}

// A picture that a click enlarges, or the reason why there is none; note: what the large view adds to its path.
function picture(id, note = "") {
  const { url, reason } = known(id);
  const { path } = items[id].image;
  const box = url ? el("button.picture", { type: "button", onclick: () => enlarge(box) }) : frame();
  fill(box, { url, reason }, fileName(path));
  box.title = printable(path);
  Object.assign(box.dataset, { id, note });
  return box;
}

function card(id, detail, note = detail) {
  return el("figure.card", {}, picture(id, note), el("figcaption", {}, fileLabel(items[id].image.path), el("span.detail", {}, detail)));
}

function row(tag, ...children) {
  const made = el(tag, {}, ...children);
  made.dataset.row = "";
  return made;
}

// The sections of each kind of page, as far as the filter leaves them; `left` collects the images that it leaves.

function matchesPage(left) {
  return data.queries.map(({ query, name, failure, matches: found }, number) => {
    const kept = found.filter(([id]) => matches(id));
    const isLeft = !text || kept.length || (query !== null && matches(query));
    if (!isLeft) return null;
    for (const id of [...kept.map(([one]) => one), ...(query === null || !matches(query) ? [] : [query])]) left.add(id);
    const own = query === null
      ? el("figure.card", {}, el(".picture.missing", {}, "a mix of several images"), el("figcaption", {}, name))
      : card(query, "the query");
    const inside = failure ? el("p.hint", {}, `This image could not be compared: ${failure}`)
      : kept.length ? row(".grid", ...kept.map(([id, distance], at) => card(id, `${found.indexOf(kept[at]) + 1} · ${distance.toFixed(3)}`)))
        : el("p.hint", {}, found.length ? "The filter hides all matches." : "No image of the index fulfils the conditions.");
    return el("section.query", { "aria-label": `Query ${number + 1}: ${name}` }, el(".query-image", {}, own), inside);
  });
}

function outliersPage(left) {
  const shown = data.outliers.filter(({ image, nearest }) => [image, nearest].some(matches));
  for (const { image, nearest } of shown) for (const id of [image, nearest]) if (matches(id)) left.add(id);
  return shown.length ? [row(".odd-cards", ...shown.map(({ image, nearest, times, reason }) => {
    const found = { path: items[image].image.path, times, reason };
    return el("figure.odd-card", {}, el(".pair-of", {}, picture(image, `${times.toFixed(1)}× as far from its nearest image as usual`),
      el("div", {}, picture(nearest, "the nearest image"), nearestCaption(items[nearest].image.path))), outlierCaption(found));
  }))] : [];
}

function duplicatesPage(left) {
  return [el(".groups", {}, ...data.groups.map(({ why, images }, number) => {
    if (!images.some(({ item }) => matches(item))) return null;
    for (const { item } of images) if (matches(item)) left.add(item);
    const group = { images: images.map((one) => ({ ...one, path: items[one.item].image.path })) };
    const cards = group.images.map((image) => el(`figure.duplicate.${image.how === "kept" ? "proposed" : "other"}`, {},
      picture(image.item), duplicateCaption(group, image, image.how === "kept" ? "keep" : "")));
    const made = row(`section.group${images.length > 2 ? ".wide" : ""}`, el("h2", {}, `Group ${numbers(number + 1)}`,
      el("span.why", {}, "keep ", el("strong", {}, fileName(group.images[0].path)), ` — ${printable(why)}`)), el(".cards", {}, ...cards));
    return made;
  }))];
}

const orders = { all: "nearest to the middle first", borderline: "nearest to another cluster first", farthest: "farthest from the middle first" };
const openLists = new Map();

function clustersPage(left) {
  const most = Math.max(1, ...data.clusters.map(({ size }) => size));
  const cards = data.clusters.map((cluster) => {
    const own = cluster.listed.filter(([id]) => matches(id));
    const shown = (text ? own.map(([id]) => id) : cluster.sample).slice(0, SAMPLES);
    if (text && !shown.length) return null;
    for (const [id] of own) left.add(id);
    for (const id of cluster.sample) if (matches(id)) left.add(id);
    const notes = new Map(cluster.listed.map(([id, distance]) => [id, `${distance.toFixed(3)} from the middle`]));
    const lists = { all: own.map(([id, distance]) => [id, distance.toFixed(3)]),
      borderline: cluster.borderline.filter(([id]) => matches(id)),
      farthest: cluster.farthest.filter(([id]) => matches(id)).map(([id, distance]) => [id, distance.toFixed(3)]) };
    const wanted = openLists.get(cluster.label);
    const link = (name, label) => el("button.link", { type: "button", "aria-expanded": String(wanted === name), onclick: () => {
      openLists.set(cluster.label, openLists.get(cluster.label) === name ? null : name);
      render();
      document.querySelector(`#cluster-${cluster.label} [aria-expanded="true"]`)?.focus();
    } }, label);
    const label = cluster.listed.length < cluster.size ? `${numbers(cluster.listed.length)} of ${numbers(cluster.size)}` : `all ${numbers(cluster.size)}`;
    const links = [lists.all.length ? link("all", text ? `${numbers(lists.all.length)} found` : label) : null,
      lists.borderline.length ? link("borderline", "borderline") : null, lists.farthest.length ? link("farthest", "farthest") : null];
    const title = cluster.name || `cluster ${cluster.label}`;
    const made = clusterCard({ label: title, size: cluster.size, colour: cluster.label, most,
      head: [el("h2.cluster-name", {}, title), el("span.count", {}, `${cluster.name ? `cluster ${cluster.label} · ` : ""}${count(cluster.size, "image")}`)],
      pictures: row(".strip", ...shown.map((id) => picture(id, notes.get(id)))), links: links.filter(Boolean), properties: { id: `cluster-${cluster.label}` } });
    if (wanted) made.append(members(lists[wanted], orders[wanted], wanted === "all" && !text && cluster.listed.length < cluster.size));
    made.classList.toggle("open", Boolean(wanted));
    return made;
  });
  return [el(".clusters", {}, ...cards)];
}

// All images of a list, a part at a time.
function members(all, order, isPart) {
  const grid = el(".grid.small");
  let next = 0;
  const more = el("button", { type: "button", onclick: () => add() });
  const add = () => {
    grid.append(...all.slice(next, next + PART).map(([id, detail]) => card(id, detail, /^[\d.]+$/.test(detail) ? `${detail} from the middle` : detail)));
    next = Math.min(next + PART, all.length);
    more.hidden = next >= all.length;
    more.textContent = `Show more: ${numbers(all.length - next)} left`;
  };
  add();
  return row(".members", el("p.hint", {}, `${count(all.length, "image")}, ${order}. `, ...(isPart ? ["For every image: ", el("code", {}, data.command)] : [])), grid, more);
}

// What stands below the images of a clustering: its map, and how the number of clusters was chosen.

let plane = null;

function map() {
  const { ids, group, of, methods } = data.map;
  const groups = data.clusters.map(({ label, name, size }) => ({ name: name || `cluster ${label}`, images: size, colour: label }));
  const at = new Map(data.clusters.map(({ label }, place) => [label, place]));
  const names = Object.keys(methods);
  const selected = el("span.map-note", { role: "status" });
  const chosen = () => [...plane.selectedIds()].map((id) => items[id].image.path).join("\n");
  const copy = copyButton(chosen, "Copy paths");
  copy.hidden = true;
  plane = new Plane({ item: async (id) => items[id], problem: (error) => say(error.message), scrolls: true,
    open: (item) => { opened = [plane.canvas]; list.source = new ListSource([item]); large.open(0); },
    changed: (size) => {
      selected.textContent = size ? `${count(size, "image")} selected` : "";
      copy.hidden = size === 0;
    } });
  plane.canvas.addEventListener("keydown", (event) => { if (plane.key(event)) event.preventDefault(); });
  const show = (method) => {
    const { x, y } = methods[method];
    const before = plane.marks;
    plane.show({ n: ids.length, ids: Uint32Array.from(ids), x: Uint16Array.from(x), y: Uint16Array.from(y),
      group: Int16Array.from(group, (label) => at.get(label) ?? -1), groups, selected: before?.selected ?? new Uint8Array(ids.length), size: before?.size ?? 0 },
    `${count(ids.length, "image")} on a map by ${METHODS[method] ?? method}: similar images are near each other`);
  };
  const choice = el("select", { "aria-label": "Map by", hidden: names.length < 2, onchange: () => show(choice.value) },
    ...names.map((value) => el("option", { value }, METHODS[value] ?? value)));
  const section = el("section.map", { id: "map" }, el(".tools", {}, el("h2", {}, "Map"), choice, plane.lassoButton, plane.zoomButtons, selected, copy), plane.element,
    el("p.hint", {}, "Point at a mark to see its image, click to enlarge it. Ctrl and the wheel zoom. ",
      ids.length < of ? `The map shows ${numbers(ids.length)} of ${count(of, "image")}, evenly taken.` : ""));
  show(names[0]);
  return section;
}

function curve() {
  const { points, line, width, height, margin, chosen } = data.curve;
  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Silhouette for each number of clusters; ${chosen} was chosen` },
    svg("line", { class: "axis", x1: margin, x2: width - margin, y1: height - margin + 8, y2: height - margin + 8 }),
    svg("polyline", { points: line }));
  for (const { x, y, k, silhouette, stability, is_chosen, is_ticked } of points) {
    const kind = is_chosen ? "chosen" : "";
    drawn.append(svg("circle", { cx: x, cy: y, r: is_chosen ? 6 : 3, class: kind },
      svg("title", {}, `k = ${k}: silhouette ${silhouette.toFixed(3)}, stability ${stability.toFixed(2)}`)));
    if (is_ticked) drawn.append(svg("text", { x, y: height - 3, class: kind }, String(k)));
    if (is_chosen) drawn.append(svg("text", { x, y: y - 10, class: kind }, silhouette.toFixed(3)));
  }
  return el("section.curve", { id: "curve" }, el("h2", {}, "Number of clusters",
    el("span.count", {}, "for each number tried, how much nearer an image is to its own cluster than to the next one, on average (silhouette)")), drawn);
}

// The page.

const KINDS = { matches: matchesPage, outliers: outliersPage, duplicates: duplicatesPage, clusters: clustersPage };
const shown = el("div");

function render() {
  const left = new Set();
  const sections = KINDS[data.kind](left).filter(Boolean);
  const nothing = text && !left.size ? [state("No image on this page matches the filter")] : [];
  shown.replaceChildren(...(data.empty ? [state(data.empty)] : [...sections, ...nothing]));
  document.getElementById("filtered").textContent = text ? `${numbers(left.size)} shown` : "";
}

function applyFilter() {
  text = filter.value.trim().toLowerCase();
  render();
  if (!plane) return;
  const found = data.map.ids.flatMap((id, at) => (matches(id) ? [at] : []));
  plane.select(text ? found : []);
  if (text) document.getElementById("filtered").textContent += `, ${numbers(found.length)} on the map`;
}

document.getElementById("note").textContent = data.note;
document.getElementById("legend").textContent = data.legend;
document.getElementById("facts").append(...data.facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
document.querySelector("header label").hidden = Boolean(data.empty);
content.replaceChildren(shown);
if (data.map) content.append(map());
if (data.curve) content.append(curve());
filter.addEventListener("input", applyFilter);
// Browsers keep the text of the filter when a page is reloaded.
applyFilter();
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest?.("input, textarea, select, dialog")) return;
  event.preventDefault();
  filter.focus();
});
if (location.hash.length > 1) document.getElementById(location.hash.slice(1))?.scrollIntoView();
