// A grid of any number of images, of which only those in the window are in the document.

import { get } from "./api.js";
import { fill, frame, ListSource } from "./cards.js";
import { count, el, fileLabel, fileName, printable, state } from "./dom.js";
import { known, loadPictures } from "./pictures.js";

// Browsers draw no element higher than some 16 million pixels: above this the scrollbar is a scale of all rows.
const HIGHEST = 8_000_000;
const PAGE = 120, MOST_PAGES = 60;
const GAP = 10, CAPTION = 40;
// The most images that can be selected, as many as one request tags or exports.
export const MOST_SELECTED = 100_000;

// The images of a view on the server.
export class ViewSource {
  constructor(view, total) {
    this.view = view;
    this.total = total;
    this.pages = new Map();
  }

  async load(first, last, signal) {
    const wanted = [];
    for (let page = Math.floor(first / PAGE); page <= Math.floor((last - 1) / PAGE); page++) {
      if (!this.pages.has(page)) wanted.push(page);
    }
    await Promise.all(wanted.map(async (page) => {
      const rows = await get(`/views/${this.view}/rows?offset=${page * PAGE}&limit=${PAGE}`, signal);
      const byId = new Map(rows.images.map((image) => [image.id, image]));
      this.pages.set(page, rows.ids.map((id) => ({ id, image: byId.get(id) || null })));
      if (this.pages.size > MOST_PAGES) this.pages.delete(this.pages.keys().next().value);
    }));
  }

  at(index) {
    const page = this.pages.get(Math.floor(index / PAGE));
    return page ? page[index % PAGE] : undefined;
  }

  // The ids of a range; null where some of them are not here.
  ids(first, last) {
    const ids = [];
    for (let at = first; at < last; at++) {
      const item = this.at(at);
      if (!item) return null;
      ids.push(item.id);
    }
    return ids;
  }

  async loadIds(first, last) {
    return get(`/views/${this.view}/ids?offset=${first}&limit=${last - first}`);
  }

  forget() {
    this.pages.clear();
  }
}

export class Grid {
  // open: called with the index of the image to enlarge. changed: called when the selection has changed.
  constructor({ label, open, changed, empty }) {
    this.open = open;
    this.changed = changed;
    this.empty = empty;
    // The ids of the selected images, and what has to wait for ids that are not here yet.
    this.selected = new Set();
    this.waiting = null;
    this.focused = 0;
    this.anchor = 0;
    this.rows = new Map();
    // The first and last images that are drawn; none before the grid has a size.
    this.range = [0, 0];
    this.layer = el(".layer", { role: "presentation" });
    this.spacer = el(".spacer", { role: "presentation" }, this.layer);
    this.element = el(".scroller", { role: "grid", tabIndex: -1, "aria-label": label, "aria-multiselectable": "true" },
      this.spacer);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("click", (event) => this.click(event));
    this.element.addEventListener("dblclick", (event) => this.enlarge(event));
    this.resized = new ResizeObserver(() => this.measure());
    this.resized.observe(this.element);
    this.source = new ListSource([]);
  }

  close() {
    this.resized.disconnect();
    this.abort?.abort();
  }

  show(source, focused = 0) {
    this.source = source;
    this.waiting = null;
    this.clearSelection();
    this.focused = Math.min(focused, Math.max(0, source.total - 1));
    this.anchor = this.focused;
    this.clearRows();
    this.element.scrollTop = 0;
    this.measure();
    if (focused) this.reveal();
  }

  clearRows() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
  }

  measure() {
    const width = this.element.clientWidth - 2 * GAP;
    if (width <= 0) return;
    const least = width < 500 ? 104 : 148;
    const columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
    const side = Math.floor((width - GAP * (columns - 1)) / columns);
    const changed = columns !== this.columns || side !== this.side;
    [this.columns, this.side, this.height] = [columns, side, side + CAPTION + GAP];
    this.element.style.setProperty("--side", `${side}px`);
    this.count = Math.ceil(this.source.total / columns);
    this.full = this.count * this.height + GAP;
    this.spacer.style.height = `${Math.min(this.full, HIGHEST)}px`;
    this.element.setAttribute("aria-rowcount", this.count);
    this.element.setAttribute("aria-colcount", columns);
    if (changed) this.clearRows();
    this.draw();
  }

  // Where the window begins among all rows, in pixels.
  get top() {
    const { scrollTop, clientHeight } = this.element;
    if (this.full <= HIGHEST) return scrollTop;
    return (scrollTop / (HIGHEST - clientHeight)) * (this.full - clientHeight);
  }

  set top(pixels) {
    const { clientHeight } = this.element;
    const most = Math.max(0, this.full - clientHeight);
    const top = Math.max(0, Math.min(most, pixels));
    this.element.scrollTop = this.full <= HIGHEST ? top : (top / most) * (HIGHEST - clientHeight);
  }

  draw() {
    if (!this.columns) return;
    const top = this.top;
    const first = Math.max(0, Math.floor(top / this.height) - 1);
    const last = Math.min(this.count, Math.ceil((top + this.element.clientHeight) / this.height) + 1);
    for (const [number, row] of this.rows) {
      if (number < first || number >= last) {
        row.remove();
        this.rows.delete(number);
      }
    }
    // Rows stand where the window is, whatever the scale of the scrollbar.
    const shift = this.element.scrollTop - top;
    for (let number = first; number < last; number++) {
      let row = this.rows.get(number);
      if (!row) {
        row = this.makeRow(number);
        this.rows.set(number, row);
        this.layer.append(row);
      }
      row.style.transform = `translateY(${shift + number * this.height + GAP}px)`;
    }
    this.range = [first * this.columns, Math.min(this.source.total, last * this.columns)];
    const nothing = this.source.total === 0 && this.empty;
    if (nothing && !this.hint) this.layer.append((this.hint = this.empty()));
    if (!nothing && this.hint) {
      this.hint.remove();
      this.hint = null;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), this.loaded ? 40 : 0);
  }

  makeRow(number) {
    const row = el(".row-of-images", { role: "row", "aria-rowindex": number + 1 });
    const end = Math.min(this.source.total, (number + 1) * this.columns);
    for (let index = number * this.columns; index < end; index++) row.append(this.makeCell(index));
    return row;
  }

  makeCell(index) {
    const cell = el(".cell", { role: "gridcell", tabIndex: index === this.focused ? 0 : -1,
      "aria-colindex": (index % this.columns) + 1 });
    cell.dataset.index = index;
    cell.append(frame(), el(".caption"));
    this.fillCell(cell);
    return cell;
  }

  fillCell(cell) {
    const item = this.source.at(Number(cell.dataset.index));
    if (!item || cell.dataset.id) return;
    cell.dataset.id = item.id;
    const name = item.image ? fileName(item.image.path) : "not in the index any more";
    const tags = item.image?.tags?.length ? item.image.tags.join(", ") : "";
    const note = item.note || printable(tags) || (item.image ? `${item.image.width} × ${item.image.height}` : "");
    cell.lastChild.replaceChildren(item.image ? fileLabel(item.image.path) : el("span.name", {}, name), el("span.detail", {}, note));
    this.mark(cell, item.id);
    const picture = item.image ? known(item.id) : { url: "", reason: "it was removed" };
    // The name stands below.
    if (picture) fill(cell.firstChild, picture, "");
  }

  mark(cell, id) {
    cell.setAttribute("aria-selected", this.selected.has(id));
  }

  async load() {
    this.loaded = true;
    const [first, last] = this.range;
    if (first >= last) return;
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    const source = this.source;
    try {
      await source.load(first, last, signal);
      if (source !== this.source || signal.aborted) return;
      const cells = [...this.layer.querySelectorAll(".cell")];
      for (const cell of cells) this.fillCell(cell);
      const waiting = new Map();
      for (const cell of cells) {
        if (cell.dataset.id && cell.firstChild.classList.contains("waiting")) waiting.set(Number(cell.dataset.id), cell);
      }
      await loadPictures([...waiting.keys()], (id, picture) => {
        const cell = waiting.get(id);
        if (cell?.isConnected) fill(cell.firstChild, picture, "");
      }, signal);
    } catch (error) {
      if (error.name !== "AbortError") this.report(error);
    }
  }

  report(error) {
    this.element.dispatchEvent(new CustomEvent("problem", { detail: error, bubbles: true }));
  }

  // Ask again for what is shown, such as tags that have changed.
  refresh() {
    this.source.forget();
    for (const cell of this.layer.querySelectorAll(".cell")) delete cell.dataset.id;
    this.load();
  }

  cell(index) {
    return this.layer.querySelector(`[data-index="${index}"]`);
  }

  reveal() {
    const row = Math.floor(this.focused / this.columns);
    const top = this.top, { clientHeight } = this.element;
    if (row * this.height < top) this.top = row * this.height;
    else if ((row + 1) * this.height + GAP > top + clientHeight) this.top = (row + 1) * this.height + GAP - clientHeight;
    this.draw();
  }

  focus(index) {
    this.cell(this.focused)?.setAttribute("tabindex", "-1");
    this.focused = Math.max(0, Math.min(this.source.total - 1, index));
    this.reveal();
    const cell = this.cell(this.focused);
    cell?.setAttribute("tabindex", "0");
    cell?.focus({ preventScroll: true });
  }

  // Call `act` with the ids of a range. Where some are not here yet they are fetched first, and calls keep their order:
  // a key that is pressed before its image is loaded acts on that image all the same.
  withIds(first, last, act) {
    const { source } = this;
    const ids = this.waiting ? null : source.ids(first, last);
    if (ids) {
      act(ids);
      return;
    }
    const before = this.waiting;
    const waiting = (async () => {
      await before;
      try {
        const found = source.ids(first, last) ?? (await source.loadIds(first, last));
        if (source === this.source) act(found);
      } catch (error) {
        this.report(error);
      }
      if (this.waiting === waiting) this.waiting = null;
    })();
    this.waiting = waiting;
  }

  toggle(index) {
    this.anchor = index;
    this.withIds(index, index + 1, ([id]) => {
      if (!this.selected.delete(id)) this.selected.add(id);
      this.update();
    });
  }

  extend(index) {
    const [first, last] = [Math.min(this.anchor, index), Math.max(this.anchor, index)];
    if (last - first >= MOST_SELECTED) {
      this.report(new Error(`At most ${total(MOST_SELECTED)} can be selected at once.`));
      return;
    }
    this.withIds(first, last + 1, (ids) => {
      for (const id of ids) this.selected.add(id);
      this.update();
    });
  }

  // Select one image and no other.
  selectOnly(id) {
    this.selected = new Set([id]);
    this.update();
  }

  clearSelection() {
    this.selected.clear();
    this.update();
  }

  update() {
    for (const cell of this.layer.querySelectorAll(".cell[data-id]")) this.mark(cell, Number(cell.dataset.id));
    this.changed?.(this.selected);
  }

  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const index = Number(cell.dataset.index);
    if (event.shiftKey) this.extend(index);
    else if (event.ctrlKey || event.metaKey || this.selected.size) this.toggle(index);
    else {
      this.anchor = index;
      this.focus(index);
      this.open(index);
      return;
    }
    this.focus(index);
  }

  enlarge(event) {
    const cell = event.target.closest(".cell");
    if (cell) this.open(Number(cell.dataset.index));
  }

  // Return whether the key was one of the grid's.
  key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height)) * this.columns;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, h: -1, l: 1,
      k: -this.columns, j: this.columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (!this.source.total) return false;
    if (event.key in moves) {
      const to = Math.max(0, Math.min(this.source.total - 1, this.focused + moves[event.key]));
      if (event.shiftKey) {
        this.focus(to);
        this.extend(to);
      } else {
        this.focus(to);
        this.anchor = to;
      }
    } else if (event.key === "x" || event.key === " ") this.toggle(this.focused);
    else if (event.key === "Enter") this.open(this.focused);
    else if (event.key === "Escape" && this.selected.size) this.clearSelection();
    else return false;
    return true;
  }
}

export function nothing(title, ...more) {
  return () => state(title, ...more);
}

export function total(number) {
  return count(number, "image");
}
