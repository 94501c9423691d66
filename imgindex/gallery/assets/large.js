// One image, as large as the window allows but not larger than it is; arrow keys go to the next one.

import { bytes, copyButton, el, fileName, printable } from "./dom.js";
import { largePicture } from "./pictures.js";

export class Large {
  // actions: [key, label, function of the item]. moved: called with the index that is shown.
  constructor(grid, actions) {
    this.grid = grid;
    this.actions = actions;
    this.release = () => {};
    this.picture = el(".large-picture");
    this.name = el("h2");
    this.path = el("p.path");
    this.facts = el("p.detail");
    this.previous = el("button", { type: "button", onclick: () => this.move(-1), "aria-label": "Previous" }, "←");
    this.next = el("button", { type: "button", onclick: () => this.move(1), "aria-label": "Next" }, "→");
    const buttons = actions.map(([key, label, act]) =>
      el("button", { type: "button", title: `${label} (${key})`, onclick: () => this.act(act) }, label));
    this.copy = copyButton(async () => (await this.item).image.path, "Copy path", this.path);
    this.file = el("a.button", { hidden: true }, "Open file");
    this.dialog = el("dialog.large", { "aria-label": "Large picture", tabIndex: -1, autofocus: true, onclose: () => this.closed() },
      this.picture,
      el(".below", {}, el("div", {}, this.name, this.path, this.facts),
        el(".buttons", {}, this.previous, this.next, ...buttons, this.copy, this.file,
          el("button", { type: "button", onclick: () => this.dialog.close() }, "Close"))));
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  open(index) {
    if (!this.dialog.isConnected) document.body.append(this.dialog);
    if (!this.dialog.open) this.dialog.showModal();
    this.show(index);
  }

  // Act on the image that is shown, as soon as it is known.
  async act(action) {
    const item = await this.item.catch(() => null);
    if (!item) return;
    this.dialog.close();
    action(item);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft" || event.key === "h") this.move(-1);
    else if (event.key === "ArrowRight" || event.key === "l") this.move(1);
    else if (event.key === "x") this.grid.toggle(this.index);
    else {
      const found = this.actions.find(([key]) => key === event.key);
      if (!found) return;
      this.act(found[2]);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  move(by) {
    const to = this.index + by;
    if (to >= 0 && to < this.grid.source.total) this.show(to);
  }

  async show(index) {
    this.index = index;
    this.abort?.abort();
    const { signal } = (this.abort = new AbortController());
    this.previous.disabled = index === 0;
    this.next.disabled = index === this.grid.source.total - 1;
    this.picture.replaceChildren();
    this.item = this.load(index, signal);
    try {
      const item = await this.item;
      if (signal.aborted) return;
      this.describe(item);
      if (!item.image) throw new Error("it is not in the index any more");
      const picture = await largePicture(item, signal);
      this.release();
      this.release = picture.release;
      const image = el("img", { src: picture.url, alt: fileName(item.image.path) });
      // A small image may have been scaled up for its frame in a grid.
      const { width, height } = item.image;
      if (width) [image.style.maxWidth, image.style.maxHeight] = [`min(100%, ${width}px)`, `min(100%, ${height}px)`];
      await image.decode();
      if (!signal.aborted) this.picture.replaceChildren(image);
    } catch (error) {
      if (error.name !== "AbortError") this.picture.replaceChildren(el("p.reason", {}, printable(error.message)));
    }
  }

  async load(index, signal) {
    const { source } = this.grid;
    await source.load(index, index + 1, signal);
    return source.at(index);
  }

  describe(item) {
    const image = item.image;
    this.name.textContent = image ? fileName(image.path) : "";
    this.path.textContent = image ? printable(image.path) : "";
    const facts = image ? [image.width ? `${image.width} × ${image.height}` : "", image.size ? bytes(image.size) : "", image.format,
      image.tags?.length ? `tags: ${printable(image.tags.join(", "))}` : "", item.note] : [];
    this.facts.textContent = facts.filter(Boolean).join(" · ");
    this.copy.hidden = !image;
    // A page that is a file may stand beside the files of its images.
    this.file.hidden = !item.href;
    if (item.href) this.file.href = item.href;
  }

  closed() {
    this.abort?.abort();
    this.grid.focus(this.index);
  }

  close() {
    this.abort?.abort();
    this.release();
    this.dialog.remove();
  }
}
