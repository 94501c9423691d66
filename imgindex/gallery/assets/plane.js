// Images as marks on a plane, drawn from typed arrays: move, zoom, a lasso, and a legend of their groups.

import { count, el, fileName, printable, say } from "./dom.js";
import { fill, frame, HUES, SHAPES } from "./cards.js";
import { loadPictures } from "./pictures.js";

// Up to so many marks have shapes; more are squares of pixels. The most groups that the legend lists.
const SHAPED = 5000, LISTED = 200;
const MARGIN = 24, STEP = 80, ZOOM = 1.4, NEAR = 12;

// Which marks lie in a polygon of points [x, y], by the number of its sides to the right of each.
export function inside(marks, polygon) {
  const xs = polygon.map(([x]) => x), ys = polygon.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const found = [];
  for (let at = 0; at < marks.n; at++) {
    const x = marks.x[at], y = marks.y[at];
    if (x < left || x > right || y < top || y > bottom) continue;
    let odd = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
      if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) odd = !odd;
    }
    if (odd) found.push(at);
  }
  return found;
}

// marks: n, ids, x, y (0…65535) and group of each mark, -1 for none; groups: their name, colour and number of images;
// selected: 1 for each selected mark; size: how many those are.
export class Plane {
  // item: returns a promise of the image of an id. open: called with an item. changed: called when the selection has
  // changed. scrolls: whether the page around the plane scrolls, so that the wheel alone does not zoom.
  constructor({ item, open, changed, problem, scrolls = false }) {
    Object.assign(this, { item, open, changed, problem, scrolls });
    this.lassoButton = el("button", { type: "button", "aria-pressed": "false", title: "Draw around images to select them (Shift + drag)",
      onclick: () => this.toggleLasso() }, "Lasso", el("kbd", {}, "o"));
    this.zoomButtons = el("span.zoom", {}, el("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.zoom(1 / ZOOM) }, "−"),
      el("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.zoom(ZOOM) }, "+"),
      el("button", { type: "button", onclick: () => this.fit() }, "Fit", el("kbd", {}, "0")));
    this.canvas = el("canvas", { tabIndex: 0, role: "img" });
    this.box = frame();
    this.name = el("span.name");
    this.preview = el(".map-preview", { hidden: true }, this.box, this.name);
    this.area = el(".map-area", {}, this.canvas, this.preview);
    this.legend = el("ul.legend", { "aria-label": "Groups" });
    this.element = el(".map-row", {}, this.area, this.legend);
    if (scrolls) this.canvas.style.touchAction = "pan-y";
    this.listen();
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.area);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.draw();
    this.scheme.addEventListener("change", this.recolour);
  }

  close() {
    this.scheme.removeEventListener("change", this.recolour);
    this.resized.disconnect();
    this.hovering?.abort();
  }

  // same: the marks are those that are shown, perhaps with other groups.
  show(marks, label, same = false) {
    this.marks = marks;
    this.canvas.setAttribute("aria-label", label);
    this.element.hidden = marks.n === 0;
    this.showLegend();
    if (same) this.draw();
    else this.fit();
  }

  // The view: where the plane is in the window.

  resize() {
    const { clientWidth: width, clientHeight: height } = this.area;
    if (!width || !height) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const first = !this.width;
    [this.width, this.height, this.ratio] = [width, height, ratio];
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (first || this.isFitted) this.fit();
    else this.draw();
  }

  fit() {
    if (!this.marks?.n || !this.width) return;
    let [left, right, top, bottom] = [65535, 0, 65535, 0];
    for (let at = 0; at < this.marks.n; at++) {
      const x = this.marks.x[at], y = this.marks.y[at];
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      if (y > bottom) bottom = y;
    }
    this.scale = Math.min((this.width - 2 * MARGIN) / Math.max(1, right - left), (this.height - 2 * MARGIN) / Math.max(1, bottom - top));
    this.left = this.width / 2 - (this.scale * (left + right)) / 2;
    this.top = this.height / 2 - (this.scale * (top + bottom)) / 2;
    this.fitted = this.scale;
    this.isFitted = true;
    this.draw();
  }

  pan(right, down) {
    this.left += right;
    this.top += down;
    this.isFitted = false;
    this.draw();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    if (!this.marks?.n) return;
    const scale = Math.max(this.fitted / 4, Math.min(this.fitted * 400, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.draw();
  }

  // Drawing.

  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.marks?.n && this.width && this.canvas.isConnected) this.drawNow();
    });
  }

  drawNow() {
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const paper = rgb(colour("--paper"));
    const hues = Array.from({ length: HUES }, (_, at) => rgb(colour(`--c${at}`)));
    const bright = [...this.marks.groups.map((group) => hues[group.colour % HUES]), rgb(colour("--soft"))];
    // What is neither selected nor pointed at fades.
    const faded = bright.map((one) => one.map((part, at) => Math.round(part * 0.28 + paper[at] * 0.72)));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.marks.n > SHAPED) this.drawPixels(context, bright, faded);
    else this.drawShapes(context, bright, faded, colour("--paper"));
    if (this.path?.length > 1) {
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      context.beginPath();
      for (const [x, y] of this.path) context.lineTo(x, y);
      context.closePath();
      context.lineWidth = 1.5;
      context.strokeStyle = colour("--accent");
      context.fillStyle = `color-mix(in srgb, ${colour("--accent")} 12%, transparent)`;
      context.fill();
      context.stroke();
    }
  }

  isBright(at) {
    const { selected, size, group } = this.marks;
    if (this.pointed !== undefined) return group[at] === this.pointed;
    return !size || selected[at] === 1;
  }

  drawPixels(context, bright, faded) {
    const { width, height } = this.canvas;
    const { n, x, y, group } = this.marks;
    if (this.image?.width !== width || this.image.height !== height) this.image = context.createImageData(width, height);
    const pixels = new Uint32Array(this.image.data.buffer);
    pixels.fill(0);
    // By group + 1: the last colour is that of no group.
    const pack = (colours) => Uint32Array.from([colours.at(-1), ...colours], ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
    const [brights, fades] = [pack(bright), pack(faded)];
    const side = Math.max(1, Math.round(this.ratio * Math.min(4, (n > 50_000 ? 1 : 2) * (this.scale / this.fitted) ** 0.4)));
    const [scale, left, top] = [this.scale * this.ratio, this.left * this.ratio - side / 2, this.top * this.ratio - side / 2];
    const fading = this.pointed !== undefined || this.marks.size > 0;
    for (let pass = fading ? 0 : 1; pass < 2; pass++) {
      const colours = pass ? brights : fades;
      for (let at = 0; at < n; at++) {
        if (fading && this.isBright(at) !== (pass === 1)) continue;
        const px = (x[at] * scale + left + 0.5) | 0, py = (y[at] * scale + top + 0.5) | 0;
        if (px < 0 || py < 0 || px + side > width || py + side > height) continue;
        const value = colours[group[at] + 1];
        let start = py * width + px;
        for (let down = 0; down < side; down++, start += width) {
          for (let right = 0; right < side; right++) pixels[start + right] = value;
        }
      }
    }
    context.putImageData(this.image, 0, 0);
  }

  drawShapes(context, bright, faded, paper) {
    const { n, x, y, group, groups } = this.marks;
    const radius = (n > 1500 ? 3 : n > 300 ? 4 : 5) * Math.min(1.6, (this.scale / this.fitted) ** 0.25);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.lineWidth = 1;
    context.strokeStyle = paper;
    for (const pass of [false, true]) {
      for (let at = 0; at < n; at++) {
        if (this.isBright(at) !== pass) continue;
        const px = x[at] * this.scale + this.left, py = y[at] * this.scale + this.top;
        if (px < -9 || py < -9 || px > this.width + 9 || py > this.height + 9) continue;
        const own = group[at] < 0 ? groups.length : group[at];
        const [red, green, blue] = (pass ? bright : faded)[own];
        context.fillStyle = `rgb(${red} ${green} ${blue})`;
        context.beginPath();
        trace(context, group[at] < 0 ? 0 : Math.floor(groups[own].colour / HUES) % SHAPES, px, py, radius);
        context.fill();
        context.stroke();
      }
    }
  }

  // Pointers.

  listen() {
    const { canvas } = this;
    const held = new Map();
    let distance = 0, moved = 0;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, place(event));
      moved = 0;
      if (held.size === 1 && (this.isLasso || event.shiftKey)) this.path = [place(event)];
      else if (held.size === 2) {
        this.path = null;
        distance = apart(held);
      }
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      const before = held.get(event.pointerId);
      if (!before) {
        this.hover(x, y);
        return;
      }
      moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
      held.set(event.pointerId, [x, y]);
      this.preview.hidden = true;
      if (this.path) {
        const [lastX, lastY] = this.path.at(-1);
        if (Math.hypot(x - lastX, y - lastY) > 3) this.path.push([x, y]);
        this.draw();
      } else if (held.size === 2) {
        const now = apart(held);
        const [[ax, ay], [bx, by]] = [...held.values()];
        if (distance) this.zoom(now / distance, (ax + bx) / 2, (ay + by) / 2);
        distance = now;
      } else this.pan(x - before[0], y - before[1]);
    });
    const released = (event) => {
      if (!held.delete(event.pointerId)) return;
      const path = this.path;
      this.path = null;
      if (event.type === "pointercancel") this.draw();
      else if (path?.length > 2) this.select(inside(this.marks, path.map((point) => this.unplace(point))), event.ctrlKey || event.metaKey);
      else if (moved < 5) this.openAt(...place(event));
    };
    canvas.addEventListener("pointerup", released);
    canvas.addEventListener("pointercancel", released);
    canvas.addEventListener("pointerleave", () => { this.hover(-99, -99); });
    canvas.addEventListener("wheel", (event) => {
      if (this.scrolls && !event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...place(event));
    }, { passive: false });
  }

  // A point of the window as one of the plane.
  unplace([x, y]) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  nearest(x, y) {
    if (!this.marks) return -1;
    const [px, py] = this.unplace([x, y]);
    let [found, least] = [-1, (NEAR / this.scale) ** 2];
    for (let at = 0; at < this.marks.n; at++) {
      const square = (this.marks.x[at] - px) ** 2 + (this.marks.y[at] - py) ** 2;
      if (square < least) [found, least] = [at, square];
    }
    return found;
  }

  hover(x, y) {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.showPreview(x, y), 30);
  }

  async openAt(x, y) {
    const at = this.nearest(x, y);
    if (at < 0) return;
    this.preview.hidden = true;
    try {
      this.open(await this.item(this.marks.ids[at]));
    } catch (error) {
      this.problem(error);
    }
  }

  async showPreview(x, y) {
    const at = this.nearest(x, y);
    this.canvas.style.cursor = at >= 0 ? "pointer" : "";
    this.preview.hidden = at < 0;
    if (at < 0) return;
    const id = this.marks.ids[at];
    this.preview.style.left = `${Math.max(8, Math.min(this.width - 168, x + 16))}px`;
    this.preview.style.top = `${Math.max(8, Math.min(this.height - 196, y + 16))}px`;
    if (this.previewed === id) return;
    this.previewed = id;
    this.hovering?.abort();
    const { signal } = (this.hovering = new AbortController());
    this.box.className = "picture waiting";
    this.box.replaceChildren();
    const group = this.marks.groups[this.marks.group[at]];
    this.name.textContent = group ? printable(group.name) : "";
    try {
      const item = this.item(id, signal);
      await loadPictures([id], (_, picture) => fill(this.box, picture, ""), signal);
      const { image } = await item;
      this.name.textContent = [image ? fileName(image.path) : "", group ? printable(group.name) : ""].filter(Boolean).join(" · ");
    } catch (error) {
      if (error.name !== "AbortError") this.problem(error);
    }
  }

  // The selection.

  toggleLasso(on = !this.isLasso) {
    this.isLasso = on;
    this.lassoButton.setAttribute("aria-pressed", on);
    this.area.classList.toggle("lasso", on);
  }

  select(places, more = false) {
    if (!more) this.marks.selected.fill(0);
    for (const at of places) this.marks.selected[at] = 1;
    this.marks.size = this.marks.selected.reduce((sum, one) => sum + one, 0);
    this.showLegendState();
    this.changed(this.marks.size);
    this.draw();
  }

  selectedIds() {
    return [...this.marks.ids.filter((_, at) => this.marks.selected[at])];
  }

  clear() {
    this.select([]);
  }

  showLegend() {
    const { groups } = this.marks;
    const listed = groups.slice(0, LISTED);
    this.legend.hidden = !groups.length;
    this.pointed = undefined;
    const point = (at) => () => {
      this.pointed = at;
      this.draw();
    };
    this.legend.replaceChildren(...listed.map((group, at) => el("li", {},
      el(`button.c${group.colour % HUES}`, { type: "button", "aria-pressed": "false", title: "Select these images",
        onclick: () => this.selectGroup(at), onpointerenter: point(at), onfocus: point(at),
        onpointerleave: point(undefined), onblur: point(undefined) },
        el(`span.dot.shape${Math.floor(group.colour / HUES) % SHAPES}`), el("span.name", {}, printable(group.name)),
        el("span.count", {}, group.images.toLocaleString("en"))))));
    if (groups.length > LISTED) this.legend.append(el("li.detail", {}, `and ${count(groups.length - LISTED, "more", "more")}`));
    this.showLegendState();
  }

  showLegendState() {
    const full = new Set();
    const part = new Set();
    for (let at = 0; at < this.marks.n && this.marks.size; at++) {
      (this.marks.selected[at] ? full : part).add(this.marks.group[at]);
    }
    for (const [at, button] of [...this.legend.querySelectorAll("button")].entries()) {
      button.setAttribute("aria-pressed", full.has(at) && !part.has(at));
    }
  }

  // Select a group too, or take it out of the selection.
  selectGroup(group) {
    const { group: of, selected } = this.marks;
    const places = [...of.keys()].filter((at) => of[at] === group);
    if (!places.every((at) => selected[at])) this.select(places, true);
    else {
      const kept = [...selected.keys()].filter((at) => selected[at] && of[at] !== group);
      this.select(kept);
    }
  }

  key(event) {
    const pans = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP],
      h: [STEP, 0], l: [-STEP, 0], k: [0, STEP], j: [0, -STEP] };
    if (!this.marks?.n) return false;
    if (event.key in pans) this.pan(...pans[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(ZOOM);
    else if (event.key === "-") this.zoom(1 / ZOOM);
    else if (event.key === "0") this.fit();
    else if (event.key === "o") {
      this.toggleLasso();
      say(this.isLasso ? "Lasso" : "Move the map");
    } else if (event.key === "Escape" && this.isLasso) this.toggleLasso(false);
    else if (event.key === "Escape" && this.marks.size) this.clear();
    else return false;
    return true;
  }
}

function apart(held) {
  const [[ax, ay], [bx, by]] = [...held.values()];
  return Math.hypot(ax - bx, ay - by);
}

function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

// The outline of a mark: a circle, a square, a triangle or a diamond.
function trace(context, shape, x, y, radius) {
  if (shape === 0) context.arc(x, y, radius, 0, 2 * Math.PI);
  else if (shape === 1) context.rect(x - 0.87 * radius, y - 0.87 * radius, 1.74 * radius, 1.74 * radius);
  else {
    const corners = shape === 2 ? [[0, -1.2], [1.05, 0.75], [-1.05, 0.75]] : [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]];
    for (const [right, down] of corners) context.lineTo(x + right * radius, y + down * radius);
    context.closePath();
  }
}
