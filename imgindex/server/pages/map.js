// The map of all images: which one, colours of clusters, folders or tags, maps made by jobs, and a selection.

import { bus, get, getBytes, send, server } from "./api.js";
import { count, el, state } from "./dom.js";
import { ListSource } from "./cards.js";
import { emptyIndex } from "./command_lines.js";
import { total } from "./grid.js";
import { Large } from "./large.js";
import { Plane } from "./plane.js";
import { Selection } from "./selection.js";

const METHODS = { pca: "PCA", pacmap: "PaCMAP", umap: "UMAP", tsne: "t-SNE" };
const COLOURS = { cluster: "clusters", folder: "folders", tag: "tags" };

// The marks of a map: ids, x, y and group of each, and the groups.
function parse(buffer) {
  const n = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4 + 10 * n));
  return { n, ids: new Uint32Array(buffer, 4, n), x: new Uint16Array(buffer, 4 + 4 * n, n), y: new Uint16Array(buffer, 4 + 6 * n, n),
    group: new Int16Array(buffer, 4 + 8 * n, n), groups: JSON.parse(text), selected: new Uint8Array(n), size: 0 };
}

export class MapPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.method = el("select", { "aria-label": "Map by", onchange: () => this.go("map", { ...this.query, method: this.method.value }) });
    this.by = el("select", { "aria-label": "Colours of", onchange: () => this.go("map", { ...this.query, by: this.by.value }) },
      ...Object.entries(COLOURS).map(([value, label]) => el("option", { value }, `colour: ${label}`)));
    this.plane = new Plane({ item: (id, signal) => this.item(id, signal), open: (item) => this.enlarge(item),
      changed: (size) => this.selection.show(size), problem });
    this.note = el("span.map-note", { role: "status" });
    this.age = el("span.map-age.detail");
    this.anew = el("button.changes.map-anew", { type: "button", hidden: true, title: "Lay out all images again",
      onclick: () => this.layOutAnew() }, "Lay out anew");
    this.form = el(".tools", {}, this.method, this.by, this.plane.lassoButton, this.plane.zoomButtons, this.age, this.anew, this.note);
    this.showButton = el("button", { type: "button", onclick: () => this.showSelected() }, "Show");
    this.selection = new Selection({ ids: () => this.plane.selectedIds(), more: [this.showButton],
      tagged: () => { if (this.by.value === "tag") this.reload(); }, clear: () => this.plane.clear(), problem });
    // What the large view needs of a grid.
    this.large = new Large({ source: new ListSource([]), focus: () => this.plane.canvas.focus(), toggle: () => {} }, [
      ["f", "Similar", (item) => this.go("images", { like: item.id })],
    ]);
    host.replaceChildren(this.form, this.plane.element, this.selection.element);
    host.classList.add("full");
    this.onJob = (event) => this.jobChanged(event.detail);
    bus.addEventListener("job", this.onJob);
  }

  close() {
    bus.removeEventListener("job", this.onJob);
    this.abort?.abort();
    this.plane.close();
    this.large.close();
    this.host.classList.remove("full");
  }

  async open(query) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.query = query;
    this.by.value = query.by in COLOURS ? query.by : "cluster";
    this.note.textContent = this.plane.marks ? "" : "Loading…";
    try {
      const made = new Map((await get("/maps", signal)).map((one) => [one.method, one.is_made]));
      const offered = Object.keys(METHODS).filter((one) => one === "pca" || made.get(one) || !server.readOnly);
      const wanted = query.method in METHODS ? query.method : made.get("pacmap") ? "pacmap" : "pca";
      this.method.replaceChildren(...offered.map((value) => el("option", { value }, `map: ${METHODS[value]}`)));
      this.method.value = wanted;
      const ready = wanted === "pca" || made.get(wanted);
      await this.load(ready ? wanted : "pca", signal);
      await this.showAge(signal);
      if (!ready) await this.make(wanted);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.note.textContent = "";
      this.problem(error);
    }
  }

  reload() {
    this.open(this.query);
  }

  async load(method, signal) {
    const parts = new URLSearchParams({ method, by: this.by.value, ...(this.query.c ? { clustering: this.query.c } : {}) });
    const marks = parse(await getBytes(`/map?${parts}`, signal));
    const before = this.plane.marks;
    const same = before && this.shown === method && before.n === marks.n;
    if (same) [marks.selected, marks.size] = [before.selected, before.size];
    this.shown = method;
    this.note.textContent = "";
    this.plane.show(marks, `${total(marks.n)} on a map by ${METHODS[method]}`, same);
    this.empty?.remove();
    if (!marks.n) {
      this.plane.element.before((this.empty = emptyIndex()));
    }
    this.selection.show(marks.size);
  }

  // How old the layout is that is shown, and what has changed since.
  async showAge(signal) {
    const { made_at: at, placed, removed } = (await get("/maps", signal)).find((one) => one.method === this.shown);
    const since = [placed && `${count(placed, "image")} placed since`, removed && `${total(removed)} gone or changed since`].filter(Boolean);
    this.age.textContent = at ? [`laid out ${new Date(at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })}`, ...since].join(", ") : "";
    this.anew.hidden = !since.length || server.readOnly;
  }

  async layOutAnew() {
    try {
      await this.make(this.shown, true);
    } catch (error) {
      this.problem(error);
    }
  }

  // Jobs.

  async make(method, anew = false) {
    if (this.job?.method !== method) {
      this.job = { method, id: null };
      try {
        const begun = await send("POST", "/jobs", { kind: "map", method, anew });
        this.job.id = begun.id;
        // It may have ended before its id was known here.
        this.jobChanged(await get(`/jobs/${begun.id}`));
      } catch (error) {
        this.job = null;
        throw error;
      }
    }
    if (this.job) this.note.textContent = this.making(method);
  }

  making(method, stage = "") {
    return `Making the map by ${METHODS[method]}${stage}.${this.shown === method ? "" : ` Meanwhile by ${METHODS[this.shown]}.`}`;
  }

  jobChanged(job) {
    if (!this.job || job.id !== this.job.id) return;
    const { method } = this.job;
    if (["queued", "running"].includes(job.state)) {
      if (job.progress) this.note.textContent = this.making(method, `: ${job.progress.stage}`);
      return;
    }
    this.job = null;
    if (job.state === "done") {
      if (this.method.value === method) this.reload();
    } else {
      if (job.problem) this.problem({ message: job.problem.detail, hint: job.problem.hint });
      this.go("map", { ...this.query, method: "pca" });
    }
  }

  async item(id, signal) {
    const [image] = await get(`/images?ids=${id}`, signal ?? this.abort.signal);
    return { id, image: image ?? null };
  }

  enlarge(item) {
    this.large.grid.source = new ListSource([item]);
    this.large.open(0);
  }

  // The selection.

  async showSelected() {
    const view = await this.selection.attempt(() => this.selection.view());
    if (view) this.go("images", { view: view.view });
  }

  key(event) {
    if (event.key !== "t" || !this.plane.marks?.size) return this.plane.key(event);
    this.selection.tagName.focus();
    return true;
  }
}
