// The clusters of one clustering: their nearest images, names, and edits, each of which makes a clustering of its own.

import { bus, get, send, server } from "./api.js";
import { count, el, printable, say, state } from "./dom.js";
import { clusterCard, fill, frame } from "./cards.js";
import { loadPictures } from "./pictures.js";
import { commandLine, saving } from "./command_lines.js";

const SAMPLES = 8;
const DONE = { merge: "Merged", split: "Split", move: "Moved images" };

export function clusterName(cluster) {
  return cluster.name ? `“${printable(cluster.name)}”` : `cluster ${cluster.label}`;
}

export class ClustersPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.selected = new Set();
    this.choice = el("select", { "aria-label": "Clustering", onchange: () => this.go("clusters", { c: this.choice.value }) });
    this.k = el("input.k", { type: "number", min: 1, max: 100000, placeholder: "auto", "aria-label": "Number of clusters" });
    this.undoButton = el("button.changes", { type: "button", hidden: true, onclick: () => this.undo() });
    this.form = el("form.tools", { onsubmit: (event) => { event.preventDefault(); this.cluster(); } },
      this.choice, el("button", { type: "button", onclick: () => this.go("map", { c: this.found?.id }) }, "Map"), this.undoButton, el("label.changes", {}, "Make one with k = ", this.k), el("button.changes", {}, "Cluster"));
    this.note = el(".result.note", { role: "status", hidden: true });
    this.list = el(".clusters");
    this.save = el("div");
    this.makeSelectionBar();
    host.replaceChildren(this.form, this.note, this.list, this.save, this.bar);
    this.ended = (event) => this.jobEnded(event.detail);
    bus.addEventListener("job", this.ended);
  }

  close() {
    bus.removeEventListener("job", this.ended);
    this.abort?.abort();
  }

  async open(query) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.selected.clear();
    this.showSelection();
    if (!this.list.querySelector(".cluster-card")) this.list.replaceChildren(state("Loading…"));
    try {
      const kept = await get("/clusterings", signal);
      this.choice.hidden = !kept.length;
      this.choice.replaceChildren(...[...kept].reverse().map((one) => el("option", { value: one.id },
        `#${one.id} · ${count(one.k, "cluster")} · ${one.edited_from ? `edited from #${one.edited_from}` : one.made_at.slice(0, 16).replace("T", " ")}`)));
      if (!kept.length) {
        this.undoButton.hidden = true;
        this.list.replaceChildren(state("No clustering yet", el("p", {}, "Make one above, or in a terminal:"),
          commandLine("imgindex cluster -k auto")));
        return;
      }
      const id = query.c ? Number(query.c) : kept[kept.length - 1].id;
      this.choice.value = id;
      await this.show(id, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.list.replaceChildren(state(printable(error.message), el("p", {}, printable(error.hint || ""))));
    }
  }

  async show(id, signal) {
    const [found, samples] = await Promise.all([get(`/clusterings/${id}`, signal),
      get(`/clusterings/${id}/samples?n=${SAMPLES}`, signal)]);
    const boxes = new Map();
    const most = Math.max(...found.sizes);
    this.found = found;
    const edit = found.options.edit;
    this.undoButton.hidden = !edit;
    this.undoButton.replaceChildren(`Undo ${edit?.kind ?? ""}`, el("kbd", {}, "u"));
    const said = this.said?.id === id ? this.said.text : "";
    this.note.hidden = !said;
    this.note.replaceChildren(said);
    this.save.replaceChildren(saving(`imgindex clusterings show ${id} --html clusters.html`));
    this.list.replaceChildren(...found.clusters.map((cluster) => this.card(id, cluster, samples[cluster.label], boxes, most)));
    // After an edit the keys go on where it was; labels, and so places, are others now.
    this.focusCard(Math.max(0, found.clusters.findIndex((one) => one.id === this.current)), Boolean(said));
    await loadPictures([...boxes.keys()], (one, picture) => {
      for (const box of boxes.get(one)) fill(box, picture, "");
    }, signal);
  }

  card(id, cluster, ids, boxes, most) {
    const where = { clustering: id, label: cluster.label, sort: "distance" };
    const open = (query) => (event) => {
      event.preventDefault();
      this.go("images", query);
    };
    const pick = el("button.pick.changes", { type: "button", tabIndex: -1, "aria-pressed": "false",
      "aria-label": `Select ${clusterName(cluster)}`, title: "Select (x)", onclick: () => this.toggle(cluster.label) });
    const name = el("input.cluster-name", { value: cluster.name ?? "", placeholder: `cluster ${cluster.label}`,
      "aria-label": `Name of cluster ${cluster.label}`, maxLength: 200, disabled: server.readOnly,
      onchange: () => this.rename(id, cluster, name),
      onkeydown: (event) => {
        if (event.key === "Enter") name.blur();
        if (event.key === "Escape") {
          name.value = cluster.name ?? "";
          name.blur();
        }
      } });
    const pictures = ids.map((one) => {
      const box = frame();
      boxes.set(one, [...(boxes.get(one) || []), box]);
      return box;
    });
    return clusterCard({ label: cluster.name || `cluster ${cluster.label}`, size: cluster.size, colour: cluster.id, most,
      head: [name, el("span.count", {}, count(cluster.size, "image")), pick],
      pictures: el("a.strip", { href: "#", onclick: open(where), "aria-label": `All images of cluster ${cluster.label}` }, ...pictures),
      links: [el("a", { href: "#", onclick: open(where) }, `all ${cluster.size.toLocaleString("en")}`),
        el("a", { href: "#", onclick: open({ ...where, sort: "margin" }) }, "borderline"),
        el("a", { href: "#", onclick: open({ ...where, sort: "-distance" }) }, "farthest"),
        this.drift(cluster)].filter(Boolean),
      properties: { onfocusin: () => { this.at = cluster.label; this.current = cluster.id; } } });
  }

  drift(cluster) {
    if (cluster.was === null && this.found.since !== null) return el("span.detail", {}, "a new cluster");
    if (!cluster.came && !cluster.left) return null;
    return el("span.detail", {}, `since the clustering before: ${cluster.came} came, ${cluster.left} left`);
  }

  async rename(id, cluster, input) {
    const name = input.value.trim() || null;
    if (name === cluster.name) return;
    try {
      await send("PUT", `/clusterings/${id}/clusters/${cluster.label}/name`, { name });
      cluster.name = name;
      input.classList.add("saved");
      setTimeout(() => input.classList.remove("saved"), 900);
    } catch (error) {
      input.value = cluster.name ?? "";
      this.problem(error);
    }
  }

  // The selection.

  makeSelectionBar() {
    this.many = el("strong");
    this.mergeButton = el("button.main", { type: "button", onclick: () => this.merge() }, "Merge", el("kbd", {}, "m"));
    this.parts = el("input.k", { type: "number", min: 2, max: 1000, value: 2, "aria-label": "Parts" });
    this.splitButton = el("button.main", {}, "Split");
    this.splitting = el("label", {}, "into ", this.parts, " parts");
    this.bar = el("form.selection.changes", { hidden: true, onsubmit: (event) => { event.preventDefault(); this.split(); } },
      this.many, this.mergeButton, this.splitButton, this.splitting,
      el("button", { type: "button", onclick: () => this.clear() }, "Clear"));
  }

  toggle(label) {
    if (server.readOnly || !this.found?.clusters[label]) return;
    if (!this.selected.delete(label)) this.selected.add(label);
    this.showSelection();
  }

  clear() {
    this.selected.clear();
    this.showSelection();
  }

  showSelection() {
    const { size } = this.selected;
    for (const [label, pick] of this.picks().entries()) pick.setAttribute("aria-pressed", this.selected.has(label));
    this.bar.hidden = size === 0;
    this.many.textContent = `${size} selected`;
    this.mergeButton.hidden = size < 2;
    this.splitButton.hidden = this.splitting.hidden = size !== 1;
    if (size) say(`${count(size, "cluster")} selected`);
  }

  picks() {
    return [...this.list.querySelectorAll(".pick")];
  }

  focusCard(label, move = true) {
    const picks = this.picks();
    if (!picks.length) return;
    this.at = Math.max(0, Math.min(picks.length - 1, label));
    for (const [one, pick] of picks.entries()) pick.tabIndex = one === this.at ? 0 : -1;
    if (move) picks[this.at].focus();
  }

  // How many cards are in a row.
  columns() {
    const tops = [...this.list.children].map((card) => card.offsetTop);
    return Math.max(1, tops.filter((top) => top === tops[0]).length);
  }

  // Edits.

  merge() {
    // The cluster that was selected first comes first: its name stays.
    const labels = [...this.selected];
    if (labels.length < 2) return;
    const names = labels.map((label) => clusterName(this.found.clusters[label]));
    this.edit({ kind: "merge", labels }, labels, `Merged ${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
  }

  split() {
    const [label] = this.selected;
    if (this.selected.size !== 1) return;
    const k = Number(this.parts.value);
    this.edit({ kind: "split", label, k }, [label], `Split ${clusterName(this.found.clusters[label])} into ${count(k, "part")}`);
  }

  undo() {
    const edit = this.found?.options.edit;
    if (edit) this.edit({ kind: "undo" }, [], `Undone: ${DONE[edit.kind].toLowerCase()}`);
  }

  // labels: of the clusters that are edited; one of them goes on.
  async edit(body, labels, text) {
    if (server.readOnly || this.busy) return;
    this.busy = true;
    try {
      const made = await send("POST", `/clusterings/${this.found.id}/edits`, body);
      const edited = labels.map((label) => this.found.clusters[label].id);
      this.current = made.clusters.find((one) => edited.includes(one.id))?.id ?? this.current;
      this.said = { id: made.id, text };
      say(text);
      this.go("clusters", { c: made.id });
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy = false;
    }
  }

  async cluster() {
    const k = this.k.value ? Number(this.k.value) : null;
    try {
      this.job = (await send("POST", "/jobs", { kind: "cluster", k })).id;
    } catch (error) {
      this.problem(error);
    }
  }

  jobEnded(job) {
    if (job.id !== this.job || ["queued", "running"].includes(job.state)) return;
    this.job = null;
    if (job.problem) this.problem({ message: job.problem.detail, hint: job.problem.hint });
    else if (job.result?.id) this.go("clusters", { c: job.result.id });
  }

  key(event) {
    const cards = [...this.list.querySelectorAll(".cluster-card")];
    if (!cards.length) return false;
    const at = this.at ?? 0;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns(), h: -1, l: 1,
      k: -this.columns(), j: this.columns(), Home: -cards.length, End: cards.length };
    if (event.key in moves) this.focusCard(at + moves[event.key]);
    else if (event.key === "n") cards[at].querySelector(".cluster-name").select();
    else if (event.key === "x" || event.key === " ") this.toggle(at);
    else if (event.key === "Enter") this.go("images", { clustering: this.found.id, label: at, sort: "distance" });
    else if (event.key === "m") this.merge();
    else if (event.key === "u") this.undo();
    else if (event.key === "Escape" && this.selected.size) this.clear();
    else return false;
    return true;
  }
}
