// The images least like any other, each beside the one that is nearest to it: odd or fine. Decisions are tags.

import { bus, get, send, server } from "./api.js";
import { count, el, fileName, printable, say, state } from "./dom.js";
import { fill, ListSource, nearestCaption, outlierCaption } from "./cards.js";
import { Large } from "./large.js";
import { loadPictures } from "./pictures.js";
import { commandLine, saving } from "./command_lines.js";

const ODD = "odd", FINE = "fine";
// How many images are shown that nobody has called fine yet, and how many the server finds at most.
const SHOWN = 60, MOST = 1000;

export class OddPage {
  constructor(host, { go, problem }) {
    this.host = host;
    this.go = go;
    this.problem = problem;
    this.tags = new Map();
    this.undone = [];
    this.items = [];
    this.place = el("strong.place");
    this.all = el("input", { type: "checkbox", onchange: () => this.choose() });
    this.undoButton = el("button.changes", { type: "button", hidden: true, onclick: () => this.undo() }, "Undo", el("kbd", {}, "u"));
    this.form = el(".tools", { hidden: true }, this.place, this.undoButton, el("label", {}, this.all, " fine ones too"));
    this.list = el(".odd-cards");
    this.done = el(".decision");
    // What the large view needs of a grid.
    this.grid = { source: new ListSource([]), focus: (at) => this.focus(at), toggle: () => {} };
    this.large = new Large(this.grid, [
      ["f", "Fine", (item) => this.decide(item, FINE)],
      ["o", "Odd", (item) => this.decide(item, ODD)],
      ["s", "Similar", (item) => this.go("images", { like: item.id })],
    ]);
    host.replaceChildren(this.form, this.list, this.done);
    this.progress = (event) => this.showProgress(event.detail);
    bus.addEventListener("job", this.progress);
  }

  close() {
    bus.removeEventListener("job", this.progress);
    this.abort?.abort();
    this.large.close();
  }

  async open() {
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.form.hidden = true;
    this.host.querySelector(".save")?.remove();
    this.done.replaceChildren();
    this.list.replaceChildren(state("Comparing images…", el("p.progress", {}, "Each is compared with all others.")));
    try {
      const tags = await get("/tags", signal);
      const fine = tags.find((one) => one.tag === FINE)?.images ?? 0;
      const found = await get(`/outliers?n=${Math.min(MOST, SHOWN + fine)}`, signal);
      const images = new Map();
      for (let at = 0; at < found.length; at += 500) {
        const ids = found.slice(at, at + 500).map((one) => one.id).join(",");
        for (const image of await get(`/images?ids=${ids}`, signal)) images.set(image.id, image);
      }
      this.tags = new Map([...images].map(([id, image]) => [id, new Set(image.tags)]));
      this.items = found.map((one) => ({ id: one.id, image: images.get(one.id) || null, found: one, note: words(one) }));
      this.form.hidden = !found.length;
      if (found.length) this.list.after(saving(`imgindex outliers -n ${found.length} --html outliers.html`));
      this.choose();
    } catch (error) {
      if (error.name !== "AbortError") this.list.replaceChildren(state(printable(error.message), el("p", {}, printable(error.hint || ""))));
    }
  }

  showProgress(job) {
    const line = this.list.querySelector(".progress");
    if (!line || job.kind !== "outliers" || !job.progress) return;
    const { stage, done, total } = job.progress;
    line.textContent = `${stage}: ${done.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""}`;
  }

  // Show those that are not fine; cards that are there already stay.
  choose() {
    const shown = this.items.filter((item) => this.all.checked || !this.tags.get(item.id)?.has(FINE));
    this.grid.source = new ListSource(shown);
    const cards = new Map([...this.list.querySelectorAll(".odd-card")].map((card) => [Number(card.dataset.id), card]));
    this.list.replaceChildren(...shown.map((item) => cards.get(item.id) || this.card(item)));
    for (const card of this.list.children) this.mark(card);
    this.showPlace();
    if (!shown.length) this.list.replaceChildren(this.finished());
    else this.focus(Math.min(this.at ?? 0, shown.length - 1), false);
    this.load(shown.filter((item) => !cards.has(item.id))).catch((error) => this.problem(error));
  }

  showPlace() {
    const odd = this.items.filter((item) => this.tags.get(item.id)?.has(ODD)).length;
    const open = this.items.filter((item) => !this.tags.get(item.id)?.has(ODD) && !this.tags.get(item.id)?.has(FINE)).length;
    this.place.textContent = `${open.toLocaleString("en")} undecided${odd ? `, ${odd.toLocaleString("en")} odd` : ""}`;
    this.undoButton.hidden = !this.undone.length;
  }

  finished() {
    if (!this.items.length) return state("Nothing to compare", el("p", {}, "An image can be odd among two images or more."));
    return state("All of these are fine", el("p", {}, "Images that you called odd are tagged; this lists their files:"),
      commandLine(`imgindex list --where "tags match '${ODD}'" --format paths`));
  }

  card(item) {
    const { found } = item;
    const at = () => this.grid.source.items.indexOf(item);
    const picture = el("button.picture.waiting", { type: "button", tabIndex: -1, title: "Enlarge (Enter)", onclick: () => this.large.open(at()) });
    const nearest = el("button.picture.waiting", { type: "button", tabIndex: -1, title: "Images similar to it",
      onclick: () => this.go("images", { like: found.nearest_id }) });
    const button = (key, tag, text) => el(`button.changes.decide.${tag}`, { type: "button", tabIndex: -1, "aria-pressed": "false",
      onclick: () => this.decide(item, tag) }, text, el("kbd", {}, key));
    const card = el("figure.odd-card", { tabIndex: -1, "aria-label": `${fileName(found.path)}, ${words(found)}`,
      onfocusin: () => { this.at = Math.max(0, at()); } },
      el(".pair-of", {}, picture, el("div", {}, nearest, nearestCaption(found.nearest))), outlierCaption(found),
      el(".buttons", {}, button("f", FINE, "Fine"), button("o", ODD, "Odd")));
    card.dataset.id = item.id;
    return card;
  }

  mark(card) {
    const tags = this.tags.get(Number(card.dataset.id));
    card.classList.toggle("is-odd", Boolean(tags?.has(ODD)));
    for (const tag of [ODD, FINE]) card.querySelector(`.decide.${tag}`)?.setAttribute("aria-pressed", Boolean(tags?.has(tag)));
  }

  async load(items) {
    const { signal } = this.abort;
    const cards = new Map([...this.list.querySelectorAll(".odd-card")].map((card) => [Number(card.dataset.id), card]));
    const places = new Map();
    const note = (id, box, words) => places.set(id, [...(places.get(id) || []), [box, words]]);
    for (const item of items) {
      const [own, nearest] = cards.get(item.id).querySelectorAll(".picture");
      note(item.id, own, "the image");
      note(item.found.nearest_id, nearest, fileName(item.found.nearest));
    }
    try {
      await loadPictures([...places.keys()], (id, picture) => {
        for (const [box, words] of places.get(id)) fill(box, picture, words);
      }, signal);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  focus(at, move = true) {
    const cards = [...this.list.querySelectorAll(".odd-card")];
    if (!cards.length) return;
    this.at = Math.max(0, Math.min(cards.length - 1, at));
    for (const [one, card] of cards.entries()) card.tabIndex = one === this.at ? 0 : -1;
    if (move) cards[this.at].focus();
  }

  columns() {
    const tops = [...this.list.children].map((card) => card.offsetTop);
    return Math.max(1, tops.filter((top) => top === tops[0]).length);
  }

  // Decisions.

  async decide(item, tag) {
    if (server.readOnly || this.busy || !item) return;
    this.busy = true;
    try {
      const remove = tag === ODD ? FINE : ODD;
      const report = await this.change([item.id], [tag], [remove]);
      this.undone.push({ report, item });
      say(`${fileName(item.found.path)} is ${tag}`);
      this.done.replaceChildren(`${fileName(item.found.path)} is ${tag}.`);
      const at = this.grid.source.items.indexOf(item);
      this.at = tag === FINE && !this.all.checked ? at : at + 1;
      this.choose();
      this.focus(this.at);
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy = false;
    }
  }

  async change(ids, add, remove) {
    const report = await send("PUT", "/images/tags", { ids, add, remove });
    for (const [tag, changed] of Object.entries(report.added)) for (const id of changed) this.tags.get(id)?.add(tag);
    for (const [tag, changed] of Object.entries(report.removed)) for (const id of changed) this.tags.get(id)?.delete(tag);
    return report;
  }

  async undo() {
    if (this.busy || !this.undone.length) return;
    this.busy = true;
    try {
      const { report, item } = this.undone.pop();
      const changed = (tags) => Object.keys(tags).filter((tag) => tags[tag].length);
      await this.change([item.id], changed(report.removed), changed(report.added));
      this.done.replaceChildren("Undone.");
      this.choose();
      this.focus(this.grid.source.items.indexOf(item));
    } catch (error) {
      this.problem(error);
    } finally {
      this.busy = false;
    }
  }

  key(event) {
    const { items } = this.grid.source;
    const at = this.at ?? 0;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns(), h: -1, l: 1,
      k: -this.columns(), j: this.columns(), Home: -items.length, End: items.length };
    if (event.key === "u") this.undo();
    else if (!items.length) return false;
    else if (event.key in moves) this.focus(at + moves[event.key]);
    else if (event.key === "f") this.decide(items[at], FINE);
    else if (event.key === "o") this.decide(items[at], ODD);
    else if (event.key === "s") this.go("images", { like: items[at].id });
    else if (event.key === "Enter") this.large.open(at);
    else return false;
    return true;
  }
}

function words(found) {
  return `${found.times.toFixed(1)} times as far from its nearest image as usual`;
}
