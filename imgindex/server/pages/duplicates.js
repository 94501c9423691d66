// Groups of duplicates, one after the other: which image to keep. Decisions are tags; no file is touched.
// Of all groups the page knows the numbers of those that are decided; the images only of those near the one it shows.

import { bus, get, getBlob, send, server } from "./api.js";
import { duplicateCaption } from "./cards.js";
import { count, el, fileName, printable, quoted, say, state } from "./dom.js";
import { commandLine, saving } from "./command_lines.js";

const KEEP = "keep", SPARE = "spare";
// Groups that are fetched together, such parts that are kept, and pictures that are fetched ahead;
// how long a group is shown before its pictures are asked for, if the one before was shown for less than RESTED_MS;
// the most groups and tags of one request.
const PART = 20, PARTS = 6, AHEAD = 4, PAUSE_MS = 60, RESTED_MS = 500, MOST = 1000, MOST_TAGGED = 100_000;

export class DuplicatesPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.total = 0;
    this.decided = new Set();
    this.same = new Set();
    this.parts = new Map();
    this.tags = new Map();
    this.shown = [];
    this.undone = [];
    this.turn = Promise.resolve();
    this.urls = new Map();
    this.place = el("strong.place");
    this.all = el("input", { type: "checkbox", onchange: () => this.choose() });
    this.similar = el("input", { type: "checkbox", onchange: () => this.go("duplicates", this.similar.checked ? { similar: "true" } : {}) });
    this.exact = el("button", { type: "button", onclick: () => this.acceptExact() });
    this.form = el(".tools", {}, this.place, this.exact,
      el("label", {}, this.all, " decided ones too"), el("label", {}, this.similar, " similar ones too"));
    this.view = el(".group-view");
    this.drawn = -Infinity;
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
    this.query = query;
    this.similar.checked = query.similar === "true";
    this.total = 0;
    this.host.querySelector(".save")?.remove();
    this.shown = [];
    this.parts.clear();
    this.tags.clear();
    this.form.hidden = true;
    this.view.replaceChildren(state("Comparing images…", el("p.progress", {}, "Pixels are compared once; the results are kept.")));
    try {
      const outline = await get(`/duplicates/outline${this.similar.checked ? "?similar=true" : ""}`, signal);
      this.answer = outline.at;
      this.images = outline.images;
      this.total = outline.groups;
      this.decided = new Set(outline.decided);
      this.same = new Set(outline.exact);
      this.choose();
      if (this.total) this.done.after(saving(`imgindex duplicates${this.similar.checked ? " --similar" : ""} --html duplicates.html`));
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    if (error.name === "AbortError") return;
    this.view.replaceChildren(state(printable(error.message), el("p", {}, printable(error.hint || ""))));
  }

  // The groups of a part, with the tags of their images; parts that were used least recently are forgotten.
  part(number) {
    const known = this.parts.get(number);
    this.parts.delete(number);
    const loading = known || this.fetchGroups(number * PART, PART);
    this.parts.set(number, loading);
    if (!known) {
      loading.catch(() => { if (this.parts.get(number) === loading) this.parts.delete(number); });
      if (this.parts.size > PARTS) this.forget(this.parts.keys().next().value);
    }
    return loading;
  }

  async forget(number) {
    const groups = await this.parts.get(number).catch(() => []);
    this.parts.delete(number);
    for (const group of groups) for (const { id } of group.images) this.tags.delete(id);
  }

  async fetchGroups(after, limit) {
    const { signal } = this.abort;
    const similar = this.similar.checked ? "&similar=true" : "";
    const { groups } = await get(`/duplicates?at=${this.answer}&after=${after}&limit=${limit}${similar}`, signal);
    await this.readTags(groups, signal);
    return groups;
  }

  // The group with a number, from 1.
  async group(number) {
    const groups = await this.part(Math.floor((number - 1) / PART));
    return groups[(number - 1) % PART];
  }

  async readTags(groups, signal) {
    const ids = groups.flatMap((group) => group.images.map((image) => image.id));
    for (let at = 0; at < ids.length; at += MOST) {
      const images = await get(`/images?ids=${ids.slice(at, at + MOST).join(",")}`, signal);
      for (const image of images) this.tags.set(image.id, new Set(image.tags));
    }
  }

  showProgress(job) {
    const line = this.view.querySelector(".progress");
    if (!line || job.kind !== "duplicates" || !job.progress) return;
    const { stage, done, total } = job.progress;
    line.textContent = `${stage}: ${done.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""}`;
  }

  // List the numbers of the groups that are shown, and begin with one of them.
  choose(first) {
    this.shown = [];
    for (let number = 1; number <= this.total; number += 1) {
      if (this.all.checked || !this.decided.has(number)) this.shown.push(number);
    }
    this.at = Math.max(0, this.shown.indexOf(first));
    return this.showGroup();
  }

  showPlace() {
    this.place.textContent = this.shown.length
      ? `Group ${(Math.min(this.at, this.shown.length - 1) + 1).toLocaleString("en")} of ${this.shown.length.toLocaleString("en")}` : "";
    let exact = 0;
    for (const number of this.same) if (!this.decided.has(number)) exact += 1;
    this.exact.hidden = !exact || server.readOnly;
    this.exact.textContent = `Accept ${count(exact, "group")} of the same bytes`;
    this.form.hidden = !this.total && !this.similar.checked;
  }

  async showGroup() {
    this.overlay?.remove();
    this.overlay = null;
    this.showPlace();
    const number = this.shown[this.at];
    this.current = null;
    if (!number) {
      this.view.replaceChildren(this.finished());
      return;
    }
    try {
      const group = await this.group(number);
      if (this.shown[this.at] !== number) return;
      this.current = group;
      this.drawGroup(group);
      this.lookAhead().catch(() => {});
    } catch (error) {
      // The server keeps a few answers only.
      if (error.type === "urn:imgindex:AnswerNotFound") this.open(this.query);
      else this.fail(error);
    }
  }

  // Fetch the group after the one that is shown, and its pictures.
  async lookAhead() {
    const here = this.current, number = this.shown[this.at + 1];
    if (!number) return;
    const group = await this.group(number);
    await new Promise((resume) => setTimeout(resume, PAUSE_MS));
    for (const image of group.images.slice(0, AHEAD)) {
      if (this.current === here) await this.picture(image).catch(() => {});
    }
  }

  drawGroup(group) {
    const now = performance.now();
    // Keys may pass over many groups.
    this.pause = now - this.drawn < RESTED_MS ? PAUSE_MS : 0;
    this.drawn = now;
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
    if (!this.total) return state(`No duplicates among ${count(this.images || 0, "image")}`);
    return state("All groups are decided",
      el("p", {}, "No file was touched. The spare images are tagged; this lists their files:"),
      commandLine(`imgindex list --where "tags match '${SPARE}'" --format paths`));
  }

  card(group, image, number) {
    const tags = this.tags.get(image.id) || new Set();
    const box = el("button.picture.waiting", { type: "button", title: `Keep this one (${number})`, disabled: server.readOnly,
      onclick: () => this.keep(number - 1) });
    this.draw(box, image);
    const marked = tags.has(KEEP) ? "keep" : tags.has(SPARE) ? "spare" : image.how === "kept" ? "proposed" : "";
    return el(`figure.duplicate.${marked || "other"}`, {}, box, duplicateCaption(group, image, marked, el("kbd", {}, String(number))));
  }

  // The address of an image's picture in this page.
  async picture(image) {
    if (!this.urls.has(image.id)) {
      const blob = await getBlob(`/images/${image.id}/picture?side=768`, this.abort.signal);
      if (!this.urls.has(image.id)) this.urls.set(image.id, URL.createObjectURL(blob));
      if (this.urls.size > 40) {
        const [oldest, url] = this.urls.entries().next().value;
        URL.revokeObjectURL(url);
        this.urls.delete(oldest);
      }
    }
    return this.urls.get(image.id);
  }

  async draw(box, image) {
    try {
      if (!this.urls.has(image.id) && this.pause) {
        await new Promise((resume) => setTimeout(resume, this.pause));
        if (!box.isConnected) return;
      }
      box.replaceChildren(el("img", { src: await this.picture(image), alt: fileName(image.path) }));
      box.classList.remove("waiting");
    } catch (error) {
      if (error.name === "AbortError") return;
      box.replaceChildren(el("small", {}, printable(error.message)));
      box.className = "picture missing";
    }
  }

  async move(by) {
    const to = this.at + by;
    if (to < 0 || to >= this.shown.length) return;
    this.at = to;
    return this.showGroup();
  }

  // Decisions.

  async keep(number) {
    const group = this.current;
    if (!group?.images[number]) return;
    const kept = group.images[number];
    await this.decide([group], new Map(group.images.map((one) => [one.id, one === kept ? KEEP : SPARE])),
      `keep ${fileName(kept.path)}`);
  }

  async accept() {
    const group = this.current;
    if (group) await this.decide([group], this.proposal(group), `keep ${fileName(group.keep)}`);
  }

  async both() {
    const group = this.current;
    if (group) await this.decide([group], new Map(group.images.map((one) => [one.id, KEEP])), "keep all of the group");
  }

  async acceptExact() {
    if (this.busy) return;
    const open = new Set([...this.same].filter((number) => !this.decided.has(number)));
    const groups = [];
    this.done.replaceChildren(`Reading ${count(open.size, "group")}…`);
    try {
      for (let after = 0; after < this.total; after += MOST) {
        if (![...open].some((number) => number > after && number <= after + MOST)) continue;
        const part = await get(`/duplicates?at=${this.answer}&after=${after}&limit=${MOST}`, this.abort.signal);
        groups.push(...part.groups.filter((group) => open.has(group.group)));
      }
    } catch (error) {
      this.problem(error);
      return;
    }
    const marks = new Map(groups.flatMap((group) => [...this.proposal(group)]));
    await this.decide(groups, marks, `keep one of each of ${count(groups.length, "group")}`);
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
        for (let at = 0; at < ids.length; at += MOST_TAGGED) {
          changes.push(await this.change(ids.slice(at, at + MOST_TAGGED), [put], [off]));
        }
      }
      const gone = new Set(groups.map((group) => group.group));
      this.undone.push({ changes, first: groups[0].group, newly: [...gone].filter((number) => !this.decided.has(number)) });
      for (const number of gone) this.decided.add(number);
      const here = this.shown[this.at];
      if (!this.all.checked) this.shown = this.shown.filter((number) => !gone.has(number));
      else if (gone.has(here)) this.at = Math.min(this.at + 1, this.shown.length - 1);
      if (!this.all.checked && !gone.has(here)) this.at = this.shown.indexOf(here);
      this.at = Math.max(0, Math.min(this.at, this.shown.length - 1));
      this.sayDone(words, groups, marks);
      await this.showGroup();
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy = false;
    }
  }

  sayDone(words, groups, marks) {
    say(words);
    const spare = groups.flatMap((group) => group.images).filter((one) => marks.get(one.id) === SPARE);
    const paths = spare.slice(0, 3).map((one) => quoted(printable(one.path))).join(" ");
    const line = spare.length > 3 ? `imgindex list --where "tags match '${SPARE}'"` : `imgindex tag ${SPARE} ${paths}`;
    this.done.replaceChildren(el("span", {}, `${words[0].toUpperCase()}${words.slice(1)}. `), spare.length ? commandLine(line) : "");
  }

  async change(ids, add, remove) {
    const report = await send("PUT", "/images/tags", { ids, add, remove });
    for (const [tag, changed] of Object.entries(report.added)) for (const id of changed) this.tags.get(id)?.add(tag);
    for (const [tag, changed] of Object.entries(report.removed)) for (const id of changed) this.tags.get(id)?.delete(tag);
    return report;
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
      for (const number of last.newly) this.decided.delete(number);
      this.done.replaceChildren("Undone.");
      await this.choose(last.first);
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
    const group = this.current;
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
    else if (/^[1-9]$/.test(event.key)) this.later(event, () => this.keep(Number(event.key) - 1));
    else if (event.key in keys) this.later(event, keys[event.key]);
    else return false;
    return true;
  }

  // Each key is for the group that the keys before it lead to; a key that is held down decides one group.
  later(event, act) {
    if (!event.repeat || event.key.startsWith("Arrow")) this.turn = this.turn.then(act).catch((error) => this.problem(error));
  }
}
