// Groups of duplicates, one after the other: which image to keep. Decisions are tags; no file is touched.

import { bus, get, getBlob, getPart, send, server } from "./api.js";
import { duplicateCaption } from "./cards.js";
import { command, count, el, fileName, printable, quoted, say, state } from "./dom.js";

const KEEP = "keep", SPARE = "spare";

export class DuplicatesPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.groups = [];
    this.tags = new Map();
    this.undone = [];
    this.urls = new Map();
    this.place = el("strong.place");
    this.all = el("input", { type: "checkbox", onchange: () => this.choose() });
    this.similar = el("input", { type: "checkbox", onchange: () => this.go("duplicates", this.similar.checked ? { similar: "true" } : {}) });
    this.exact = el("button", { type: "button", onclick: () => this.acceptExact() });
    this.form = el(".tools", {}, this.place, this.exact,
      el("label", {}, this.all, " decided ones too"), el("label", {}, this.similar, " similar ones too"));
    this.view = el(".group-view");
    this.done = el(".decision", { role: "status" });
    host.replaceChildren(this.form, this.view, this.done);
    this.progress = (event) => this.showProgress(event.detail);
    bus.addEventListener("job", this.progress);
  }

  close() {
    bus.removeEventListener("job", this.progress);
    this.abort?.abort();
    for (const url of this.urls.values()) URL.revokeObjectURL(url);
    this.overlay?.remove();
  }

  async open(query) {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.similar.checked = query.similar === "true";
    this.groups = [];
    this.loading = true;
    this.form.hidden = true;
    this.view.replaceChildren(state("Comparing images…", el("p.progress", {}, "Pixels are compared once; the results are kept.")));
    try {
      let path = `/duplicates?limit=200${this.similar.checked ? "&similar=true" : ""}`;
      while (path) {
        const { data, next } = await getPart(path, signal);
        await this.readTags(data.groups, signal);
        this.groups.push(...data.groups);
        this.images = data.images;
        path = next;
        this.loading = Boolean(next);
        if (this.groups.length === data.groups.length) this.choose();
        else this.update();
      }
      this.loading = false;
      this.update();
    } catch (error) {
      if (error.name !== "AbortError") {
        this.view.replaceChildren(state(printable(error.message), el("p", {}, printable(error.hint || ""))));
      }
    }
  }

  async readTags(groups, signal) {
    const ids = groups.flatMap((group) => group.images.map((image) => image.id));
    for (let at = 0; at < ids.length; at += 1000) {
      const images = await get(`/images?ids=${ids.slice(at, at + 1000).join(",")}`, signal);
      for (const image of images) this.tags.set(image.id, new Set(image.tags));
    }
  }

  showProgress(job) {
    const line = this.view.querySelector(".progress");
    if (!line || job.kind !== "duplicates" || !job.progress) return;
    const { stage, done, total } = job.progress;
    line.textContent = `${stage}: ${done.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""}`;
  }

  isDecided(group) {
    return group.images.every(({ id }) => this.tags.get(id)?.has(KEEP) || this.tags.get(id)?.has(SPARE));
  }

  isExact(group) {
    return group.images.every((image) => image.how === "kept" || (image.how === "same" && image.disposable));
  }

  // List the groups that are shown, and begin with the first.
  choose() {
    this.shown = this.groups.filter((group) => this.all.checked || !this.isDecided(group));
    this.at = 0;
    this.showGroup();
  }

  update() {
    const known = new Set(this.shown);
    this.shown.push(...this.groups.filter((group) => !known.has(group) && (this.all.checked || !this.isDecided(group))));
    this.showPlace();
    if (!this.view.querySelector(".duplicate")) this.showGroup();
  }

  showPlace() {
    const open = this.groups.filter((group) => !this.isDecided(group));
    const more = this.loading ? "+" : "";
    this.place.textContent = this.shown.length
      ? `Group ${(Math.min(this.at, this.shown.length - 1) + 1).toLocaleString("en")} of ${this.shown.length.toLocaleString("en")}${more}` : "";
    const exact = open.filter((group) => this.isExact(group));
    this.exact.hidden = !exact.length || server.readOnly;
    this.exact.textContent = `Accept ${count(exact.length, "group")} of the same bytes`;
    this.form.hidden = !this.groups.length && !this.similar.checked;
  }

  showGroup() {
    this.overlay?.remove();
    this.overlay = null;
    this.showPlace();
    const group = this.shown[this.at];
    if (!group) {
      this.view.replaceChildren(this.finished());
      return;
    }
    const cards = group.images.map((image, number) => this.card(group, image, number + 1));
    const pager = el(".pager", {},
      el("button", { type: "button", disabled: this.at === 0, onclick: () => this.move(-1), "aria-label": "Previous group" }, "←"),
      el("button.main", { type: "button", onclick: () => this.accept(), disabled: server.readOnly }, "Keep as proposed", el("kbd", {}, "a")),
      el("button", { type: "button", onclick: () => this.both(), disabled: server.readOnly }, "Keep all", el("kbd", {}, "b")),
      el("button", { type: "button", onclick: () => this.move(1) }, "Skip", el("kbd", {}, "s")),
      el("button", { type: "button", onclick: () => this.undo(), disabled: !this.undone.length }, "Undo", el("kbd", {}, "u")),
      el("button", { type: "button", onclick: () => this.blink(), title: "Show the first two in one place, in turns" }, "Blink", el("kbd", {}, "␣")),
      el("button.natural-size", { type: "button", "aria-pressed": this.view.classList.contains("natural"), onclick: () => this.toggleSize() }, "1:1", el("kbd", {}, "z")),
      el("button.next", { type: "button", disabled: this.at >= this.shown.length - 1, onclick: () => this.move(1), "aria-label": "Next group" }, "→"));
    this.view.replaceChildren(el("p.why", {}, "Proposal: ", el("strong", {}, fileName(group.keep)), ` — ${printable(group.why)}`),
      el(".cards", {}, ...cards), pager);
  }

  finished() {
    if (this.loading) return state("Loading…");
    if (!this.groups.length) return state(`No duplicates among ${count(this.images || 0, "image")}`);
    const index = /\/\.imgindex$/.test(server.index) ? "" : ` --index ${quoted(server.index)}`;
    return state("All groups are decided",
      el("p", {}, "No file was touched. The spare images are tagged; this lists their files:"),
      command(`imgindex list --where "tags match '${SPARE}'" --format paths${index}`));
  }

  card(group, image, number) {
    const tags = this.tags.get(image.id) || new Set();
    const box = el("button.picture.waiting", { type: "button", title: `Keep this one (${number})`, disabled: server.readOnly,
      onclick: () => this.keep(number - 1) });
    this.draw(box, image);
    const marked = tags.has(KEEP) ? "keep" : tags.has(SPARE) ? "spare" : image.how === "kept" ? "proposed" : "";
    return el(`figure.duplicate.${marked || "other"}`, {}, box, duplicateCaption(group, image, marked, el("kbd", {}, String(number))));
  }

  async draw(box, image) {
    try {
      if (!this.urls.has(image.id)) {
        const blob = await getBlob(`/images/${image.id}/picture?side=768`, this.abort.signal);
        this.urls.set(image.id, URL.createObjectURL(blob));
        if (this.urls.size > 40) {
          const [oldest, url] = this.urls.entries().next().value;
          URL.revokeObjectURL(url);
          this.urls.delete(oldest);
        }
      }
      box.replaceChildren(el("img", { src: this.urls.get(image.id), alt: fileName(image.path) }));
      box.classList.remove("waiting");
    } catch (error) {
      if (error.name === "AbortError") return;
      box.replaceChildren(el("small", {}, printable(error.message)));
      box.className = "picture missing";
    }
  }

  move(by) {
    const to = this.at + by;
    if (to < 0 || to >= this.shown.length) return;
    this.at = to;
    this.showGroup();
  }

  // Decisions.

  keep(number) {
    const group = this.shown[this.at];
    if (!group?.images[number]) return;
    const kept = group.images[number];
    this.decide([group], new Map(group.images.map((one) => [one.id, one === kept ? KEEP : SPARE])),
      `keep ${fileName(kept.path)}`);
  }

  accept() {
    const group = this.shown[this.at];
    if (group) this.decide([group], this.proposal(group), `keep ${fileName(group.keep)}`);
  }

  both() {
    const group = this.shown[this.at];
    if (group) this.decide([group], new Map(group.images.map((one) => [one.id, KEEP])), "keep all of the group");
  }

  acceptExact() {
    const groups = this.groups.filter((group) => !this.isDecided(group) && this.isExact(group));
    const marks = new Map(groups.flatMap((group) => [...this.proposal(group)]));
    this.decide(groups, marks, `keep one of each of ${count(groups.length, "group")}`);
  }

  // What cannot be disposed of, such as a camera raw file or an image that was not verified, is kept too.
  proposal(group) {
    return new Map(group.images.map((one) => [one.id, one.disposable && one.how !== "kept" ? SPARE : KEEP]));
  }

  async decide(groups, marks, words) {
    if (server.readOnly || this.busy) return;
    this.busy = true;
    const changes = [];
    try {
      for (const [put, off] of [[KEEP, SPARE], [SPARE, KEEP]]) {
        const ids = [...marks].filter(([, mark]) => mark === put).map(([id]) => id);
        if (ids.length) changes.push(await this.change(ids, [put], [off]));
      }
      this.undone.push({ changes, at: this.at, groups });
      const gone = new Set(groups);
      const here = this.shown[this.at];
      if (!this.all.checked) this.shown = this.shown.filter((group) => !gone.has(group));
      else if (gone.has(here)) this.at = Math.min(this.at + 1, this.shown.length - 1);
      if (!this.all.checked && !gone.has(here)) this.at = this.shown.indexOf(here);
      this.at = Math.max(0, Math.min(this.at, this.shown.length - 1));
      this.sayDone(words, marks);
      this.showGroup();
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy = false;
    }
  }

  sayDone(words, marks) {
    say(words);
    const spare = this.groups.flatMap((group) => group.images).filter((one) => marks.get(one.id) === SPARE);
    const index = /\/\.imgindex$/.test(server.index) ? "" : ` --index ${quoted(server.index)}`;
    const paths = spare.slice(0, 3).map((one) => quoted(printable(one.path))).join(" ");
    const line = spare.length > 3 ? `imgindex list --where "tags match '${SPARE}'"${index}` : `imgindex tag ${SPARE} ${paths}${index}`;
    this.done.replaceChildren(el("span", {}, `${words[0].toUpperCase()}${words.slice(1)}. `), spare.length ? command(line) : "");
  }

  async change(ids, add, remove) {
    const report = await send("PUT", "/images/tags", { ids, add, remove });
    for (const [tag, changed] of Object.entries(report.added)) for (const id of changed) this.tagsOf(id).add(tag);
    for (const [tag, changed] of Object.entries(report.removed)) for (const id of changed) this.tagsOf(id).delete(tag);
    return report;
  }

  tagsOf(id) {
    if (!this.tags.has(id)) this.tags.set(id, new Set());
    return this.tags.get(id);
  }

  async undo() {
    const last = this.undone.pop();
    if (!last || this.busy) return;
    this.busy = true;
    try {
      for (const report of last.changes.reverse()) {
        for (const [tag, ids] of Object.entries(report.added)) if (ids.length) await this.change(ids, [], [tag]);
        for (const [tag, ids] of Object.entries(report.removed)) if (ids.length) await this.change(ids, [tag], []);
      }
      this.shown = this.groups.filter((group) => this.all.checked || !this.isDecided(group));
      this.at = Math.max(0, this.shown.indexOf(last.groups[0]));
      this.done.replaceChildren("Undone.");
      this.showGroup();
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy = false;
    }
  }

  // Pictures as large as they are, or as large as there is room.
  toggleSize() {
    const natural = this.view.classList.toggle("natural");
    this.view.querySelector(".natural-size")?.setAttribute("aria-pressed", natural);
  }

  // Two pictures in one place, in turns: what differs moves.
  blink() {
    const group = this.shown[this.at];
    if (this.overlay) {
      this.overlay.remove();
      this.overlay = null;
      return;
    }
    const urls = (group?.images || []).slice(0, 2).map((one) => this.urls.get(one.id));
    if (urls.length < 2 || !urls.every(Boolean)) return;
    const [first, second] = urls.map((src, number) => el(`img.${number ? "over" : "under"}`, { src, alt: "" }));
    this.overlay = el(".blink", { role: "dialog", "aria-label": "The first two pictures in turns", onclick: () => this.blink() }, first, second);
    this.view.append(this.overlay);
  }

  key(event) {
    const keys = { a: () => this.accept(), b: () => this.both(), s: () => this.move(1), u: () => this.undo(),
      ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1), h: () => this.move(-1), l: () => this.move(1),
      " ": () => this.blink(), z: () => this.toggleSize() };
    if (event.key === "Escape" && this.overlay) this.blink();
    else if (/^[1-9]$/.test(event.key)) this.keep(Number(event.key) - 1);
    else if (event.key in keys) keys[event.key]();
    else return false;
    return true;
  }
}
