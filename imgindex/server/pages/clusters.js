// The clusters of one clustering: their nearest images, names that can be changed, and a way to make another clustering.

import { bus, get, send, server } from "./api.js";
import { command, count, el, printable, state } from "./dom.js";
import { fill, frame, loadPictures } from "./grid.js";

const SAMPLES = 8;

export class ClustersPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.choice = el("select", { "aria-label": "Clustering", onchange: () => this.go("clusters", { c: this.choice.value }) });
    this.k = el("input.k", { type: "number", min: 1, max: 100000, placeholder: "auto", "aria-label": "Number of clusters" });
    this.form = el("form.tools", { onsubmit: (event) => { event.preventDefault(); this.cluster(); } },
      this.choice, el("label.changes", {}, "Make one with k = ", this.k), el("button.changes", {}, "Cluster"));
    this.list = el(".clusters");
    host.replaceChildren(this.form, this.list);
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
    this.list.replaceChildren(state("Loading…"));
    try {
      const kept = await get("/clusterings", signal);
      this.choice.hidden = !kept.length;
      this.choice.replaceChildren(...[...kept].reverse().map((one) => el("option", { value: one.id },
        `#${one.id} · ${count(one.k, "cluster")} · ${one.made_at.slice(0, 16).replace("T", " ")}`)));
      if (!kept.length) {
        this.list.replaceChildren(state("No clustering yet", el("p", {}, "Make one above, or in a terminal:"),
          command("imgindex cluster -k auto")));
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
    this.list.replaceChildren(...found.clusters.map((cluster) => this.card(id, cluster, samples[cluster.label], boxes, most)));
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
    const bar = el("span.size-bar");
    bar.style.width = `${Math.max(1, (100 * cluster.size) / most)}%`;
    return el(`section.cluster-card.c${cluster.label % 8}`, { "aria-label": cluster.name || `cluster ${cluster.label}` },
      el(".cluster-head", {}, el("span.dot"), name, el("span.count", {}, count(cluster.size, "image"))),
      el(".size", { "aria-hidden": "true" }, bar),
      el("a.strip", { href: "#", onclick: open(where), "aria-label": `All images of cluster ${cluster.label}` }, ...pictures),
      el(".links", {}, el("a", { href: "#", onclick: open(where) }, `all ${cluster.size.toLocaleString("en")}`),
        el("a", { href: "#", onclick: open({ ...where, sort: "margin" }) }, "borderline"),
        el("a", { href: "#", onclick: open({ ...where, sort: "-distance" }) }, "farthest"),
        this.drift(cluster)));
  }

  drift(cluster) {
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
    if (event.key !== "n") return false;
    const names = [...this.list.querySelectorAll(".cluster-name")];
    const here = document.activeElement?.closest?.(".cluster-card")?.querySelector(".cluster-name");
    (here || names[0])?.select();
    return true;
  }
}
