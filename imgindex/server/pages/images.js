// All images: those that fulfil a condition, sorted; or those similar to one, or to a picture that is dropped here.

import { bus, get, send, similarTo } from "./api.js";
import { count, el, fileName, printable, say, state } from "./dom.js";
import { clusterName } from "./clusters.js";
import { emptyIndex } from "./command_lines.js";
import { fill, frame, ListSource } from "./cards.js";
import { Grid, total, ViewSource } from "./grid.js";
import { Large } from "./large.js";
import { Selection } from "./selection.js";
import { loadPictures } from "./pictures.js";

const SORTS = { id: "as added", "-added_at": "newest first", path: "by path", "-modified": "last changed first",
  "-size": "largest file first", "-pixels": "most pixels first", pixels: "fewest pixels first" };
const OF_A_CLUSTER = { distance: "nearest to the middle", "-distance": "farthest from the middle",
  margin: "nearest to another cluster" };
const MATCHES = 100;

function inCluster(query) {
  return query.clustering !== undefined;
}

export class ImagesPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.where = el("input", { type: "search", name: "where", spellcheck: false, autocomplete: "off",
      placeholder: "width > 1000 and tags match 'cat'", "aria-label": "Condition" });
    this.sort = el("select", { name: "sort", "aria-label": "Order", onchange: () => this.submit() });
    this.form = el("form.tools", { role: "search", onsubmit: (event) => { event.preventDefault(); this.submit(); } },
      this.where, this.sort, el("button.submit", {}, "Show"),
      el("button", { type: "button", onclick: () => this.file.click() }, "Similar to a file…"));
    this.file = el("input", { type: "file", accept: "image/*", hidden: true, onchange: () => {
      if (this.file.files.length) this.drop(this.file.files[0]);
      this.file.value = "";
    } });
    this.title = el(".result", { role: "status" });
    this.grid = new Grid({ label: "Images", open: (index) => this.large.open(index),
      changed: (selected) => this.showSelection(selected), empty: () => this.emptyHint() });
    this.large = new Large(this.grid, [
      ["f", "Similar", (item) => this.go("images", { like: item.id })],
      ["t", "Tag", (item) => { this.grid.selectOnly(item.id); this.selection.tagName.focus(); }],
    ]);
    this.makeSelection();
    host.replaceChildren(this.form, this.file, this.title, this.grid.element, this.selection.element);
    host.classList.add("full");
    this.grid.element.addEventListener("problem", (event) => this.problem(event.detail));
    this.dropping = (event) => this.dragged(event);
    this.pasting = (event) => this.pasted(event);
    for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, this.dropping);
    document.addEventListener("paste", this.pasting);
    this.committed = () => this.grid.refresh();
    bus.addEventListener("changed", this.committed);
  }

  close() {
    for (const kind of ["dragover", "dragleave", "drop"]) document.removeEventListener(kind, this.dropping);
    document.removeEventListener("paste", this.pasting);
    bus.removeEventListener("changed", this.committed);
    this.abort?.abort();
    this.large.close();
    this.grid.close();
    this.host.classList.remove("full");
    document.body.classList.remove("dropping");
  }

  async open(query) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.query = query;
    this.where.value = query.where || "";
    const sorts = inCluster(query) ? { ...OF_A_CLUSTER, ...SORTS } : SORTS;
    this.sort.replaceChildren(...Object.entries(sorts).map(([value, label]) => el("option", { value }, label)));
    this.sort.value = query.sort in sorts ? query.sort : Object.keys(sorts)[0];
    this.clustering = null;
    this.grid.clearSelection();
    this.title.replaceChildren(el("span", {}, "Loading…"));
    try {
      if (query.like) await this.showSimilar(Number(query.like), signal);
      else await this.showView(query, signal);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
  }

  fail(error) {
    this.grid.show(new ListSource([]));
    this.title.replaceChildren(el("span.reason", {}, printable(error.message)),
      ...(error.hint ? [el("span.hint", {}, ` ${printable(error.hint)}`)] : []));
  }

  async showView(query, signal) {
    const body = { sort: this.sort.value };
    if (query.where) body.where = query.where;
    if (query.clustering !== undefined) body.clustering = Number(query.clustering);
    if (query.label !== undefined) body.label = Number(query.label);
    const [view, clustering] = await Promise.all([query.view ? get(`/views/${query.view}`, signal) : send("POST", "/views", body, signal),
      inCluster(query) ? get(`/clusterings/${query.clustering}`, signal) : null]);
    if (signal.aborted) return;
    this.clustering = clustering;
    this.listTargets();
    const cluster = clustering?.clusters[Number(query.label)];
    this.view = view.view;
    this.grid.show(new ViewSource(view.view, view.total));
    const parts = [el("strong", {}, total(view.total))];
    if (clustering) {
      parts.push(el("span", {}, ` in ${cluster ? clusterName(cluster) : `clustering ${clustering.id}`} `),
        this.link("all clusters", "clusters", { c: clustering.id }));
    }
    if (this.said && this.said.id === clustering?.id) {
      parts.push(el("span.note", {}, this.said.text, " ", this.said.undo ? el("button", { type: "button", onclick: () => this.undoMove() }, "Undo", el("kbd", {}, "u")) : ""));
    }
    if (query.view) parts.push(el("span", {}, " that were selected "), this.link("all images", "images", {}));
    if (query.where) parts.push(" that fulfil the condition ", this.link("all images", "images", {}));
    this.title.replaceChildren(...parts);
    if (query.where && view.total === 0) await this.sayWhyEmpty(query, signal);
  }

  // Each part of `a and b` alone: which one hides everything.
  async sayWhyEmpty(query, signal) {
    const parts = query.where.split(/\s+and\s+/i);
    if (parts.length < 2) return;
    const counts = [];
    for (const where of parts) {
      const view = await send("POST", "/views", { where }, signal).catch(() => null);
      if (view) counts.push(el("li", {}, el("code", {}, where), ` ${total(view.total)}`));
    }
    if (counts.length) this.grid.hint?.append(el("p", {}, "Alone, the parts of the condition show:"), el("ul", {}, ...counts));
  }

  async showSimilar(id, signal) {
    const answer = await get(`/images/${id}/similar?n=${MATCHES}`, signal);
    if (!signal.aborted) await this.showMatches(answer, signal, id);
  }

  async showMatches(answer, signal, id, file) {
    const ids = answer.matches.map((match) => match.id);
    const images = ids.length ? await get(`/images?ids=${ids.join(",")}`, signal) : [];
    const byId = new Map(images.map((image) => [image.id, image]));
    const box = frame();
    if (file) {
      const url = URL.createObjectURL(file);
      fill(box, { url, reason: "" }, "the picture");
      box.firstChild.addEventListener("load", () => URL.revokeObjectURL(url));
      box.firstChild.addEventListener("error", () => box.replaceChildren(el("small", {}, "this browser cannot show it")));
    } else loadPictures([id], (_, picture) => fill(box, picture, "the query"), signal).catch(() => {});
    const name = file ? printable(file.name || "the picture") : fileName(answer.query);
    this.title.replaceChildren(el("span.query-picture", {}, box), el("span", {}, el("strong", {}, `Similar to ${name}`),
      el("br"), `${count(ids.length, "match", "matches")}, nearest first, with their distances `, this.link("all images", "images", {})));
    this.grid.show(new ListSource(answer.matches.map((match) => ({ id: match.id, image: byId.get(match.id) || null,
      note: `${match.rank} · ${match.distance.toFixed(3)}` }))));
  }

  link(text, page, query) {
    return el("a", { href: "#", onclick: (event) => { event.preventDefault(); this.go(page, query); } }, text);
  }

  emptyHint() {
    if (!this.query) return el("span");
    if (this.query.where) return state("No image fulfils the condition");
    if (this.query.like || this.query.clustering !== undefined) return state("No images here");
    return emptyIndex();
  }

  submit() {
    const query = { ...this.query, where: this.where.value.trim(), sort: this.sort.value };
    delete query.like;
    delete query.view;
    this.go("images", query);
  }

  // Files that are dropped or pasted.

  dragged(event) {
    if (![...(event.dataTransfer?.types || [])].includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", event.type === "dragover");
    if (event.type === "drop" && event.dataTransfer.files.length) this.drop(event.dataTransfer.files[0]);
  }

  pasted(event) {
    const file = [...(event.clipboardData?.files || [])][0];
    if (!file) return;
    event.preventDefault();
    this.drop(file);
  }

  async drop(file) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.query = { like: "file" };
    this.grid.clearSelection();
    this.title.replaceChildren(el("span", {}, `Looking for images similar to ${printable(file.name || "the picture")}…`));
    try {
      await this.showMatches(await similarTo(file, MATCHES, signal), signal, null, file);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
  }

  // The selection.

  makeSelection() {
    this.target = el("select", { "aria-label": "Move to the cluster" });
    this.moving = el("span.changes.moving", { hidden: true }, this.target, el("button", { type: "button", onclick: () => this.move() }, "Move"));
    this.similar = el("button", { type: "button", onclick: () => this.go("images", { like: this.onlySelected() }) }, "Similar");
    this.selection = new Selection({ ids: () => [...this.grid.selected], more: [this.similar, this.moving],
      tagged: () => this.grid.refresh(), clear: () => this.grid.clearSelection(), problem: this.problem });
  }

  showSelection(selected) {
    this.selection.show(selected.size);
    this.similar.hidden = selected.size !== 1;
  }

  // The clusters that the selection can be moved to.
  listTargets() {
    const own = Number(this.query.label ?? -1);
    const others = this.clustering?.clusters.filter((cluster) => cluster.label !== own) ?? [];
    this.moving.hidden = !others.length;
    this.target.replaceChildren(...others.map((cluster) => el("option", { value: cluster.label }, `to ${clusterName(cluster)}, ${total(cluster.size)}`)));
  }

  async move() {
    const target = this.clustering.clusters[Number(this.target.value)];
    const ids = [...this.grid.selected];
    await this.edit({ kind: "move", ids, label: target.label }, `${total(ids.length)} moved to ${clusterName(target)}`, true);
  }

  async undoMove() {
    if (this.said?.undo && this.said.id === this.clustering?.id) await this.edit({ kind: "undo" }, "Undone", false);
  }

  // Edit the clustering that is shown, and show the same cluster in the one that comes of it.
  async edit(body, text, undo) {
    const shown = this.clustering.clusters[Number(this.query.label)];
    const made = await this.selection.attempt(() => send("POST", `/clusterings/${this.clustering.id}/edits`, body));
    if (!made) return;
    this.said = { id: made.id, text, undo };
    say(text);
    const label = shown && made.clusters.find((cluster) => cluster.id === shown.id)?.label;
    this.go("images", { ...this.query, clustering: made.id, label });
  }

  onlySelected() {
    return [...this.grid.selected][0];
  }

  key(event) {
    if (event.key === "/") this.where.focus();
    else if (event.key === "t" && this.grid.selected.size) this.selection.tagName.focus();
    else if (event.key === "m" && this.grid.selected.size && !this.moving.hidden) this.target.focus();
    else if (event.key === "u" && this.said?.undo) this.undoMove();
    else if (event.key === "f" && this.grid.source.total) {
      const at = this.grid.focused;
      this.grid.withIds(at, at + 1, ([id]) => this.go("images", { like: id }));
    } else return this.grid.key(event);
    return true;
  }
}
