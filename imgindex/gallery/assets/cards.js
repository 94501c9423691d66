// What stands around pictures, the same in files and on the server's page: frames, captions, and the cards of clusters.

import { bytes, el, fileLabel, folderOf, printable } from "./dom.js";

// The marks of groups: colours that colour-blind people can distinguish, times shapes; see style.css.
export const HUES = 8, SHAPES = 4;
const GRADES = { kept: "proposed to keep", same: "the same bytes", copy: "a copy, verified", similar: "similar, not verified" };

export function frame() {
  return el(".picture.waiting");
}

// Put a picture, or the reason why there is none, into a frame.
export function fill(box, picture, name) {
  if (picture.url) {
    const image = el("img", { src: picture.url, alt: name, draggable: false });
    box.replaceChildren(image);
    box.className = "picture";
  } else {
    box.replaceChildren(el("small", {}, printable(picture.reason)));
    box.className = "picture missing";
  }
}

// Some images that are here already; note: the text below each.
export class ListSource {
  constructor(items) {
    this.items = items;
    this.total = items.length;
  }

  async load() {}

  at(index) {
    return this.items[index];
  }

  ids(first, last) {
    return this.items.slice(first, last).map((item) => item.id);
  }

  forget() {}
}

// An image of a group of duplicates: its size, which is marked where it is the largest, its kind, its folder, and what hinders.
// before: what stands before its name; mark: whether it is kept.
export function duplicateCaption(group, image, mark, before = null) {
  const pixels = group.images.map((one) => one.width * one.height);
  const isLargest = image.width * image.height === Math.max(...pixels) && Math.min(...pixels) < Math.max(...pixels);
  const isSaid = image.how === "kept" && ["keep", "proposed"].includes(mark);
  const kind = [isSaid ? "" : GRADES[image.how], image.turned, image.same_file ? "another path of the same file" : "",
    image.how === "copy" || image.how === "similar" ? `distance ${image.distance.toFixed(3)}` : ""];
  const trouble = image.problem || image.protected;
  return el("figcaption", {},
    el(".head", {}, before, fileLabel(image.path), mark ? el("span.mark", {}, mark) : null),
    el("span.detail", {}, el(isLargest ? "b.better" : "span", {}, `${image.width} × ${image.height}`), " · ", bytes(image.size)),
    el("span.detail", {}, kind.filter(Boolean).join(" · ")),
    el("span.detail", {}, folderOf(image.path)),
    trouble ? el("span.detail.trouble", {}, printable(trouble)) : null);
}

// An outlier: how much farther than usual its nearest image is, and what else is unusual.
export function outlierCaption(found) {
  // How far the nearest image is has a line of its own.
  const reasons = found.reason.split("; ").filter((one) => one && !one.includes("from its nearest image"));
  return el("figcaption", {}, fileLabel(found.path), el("span.detail", {}, folderOf(found.path)),
    el("span.detail", {}, el("b", {}, `${found.times.toFixed(1)}×`), " as far from its nearest image as usual"),
    reasons.length ? el("span.detail", {}, printable(reasons.join("; "))) : null);
}

export function nearestCaption(path) {
  return el("span.detail", {}, "nearest: ", fileLabel(path));
}

// The card of a cluster: head: elements with its name; most: the size of the largest cluster; pictures: some of its images.
export function clusterCard({ label, size, colour, most, head, pictures, links, properties = {} }) {
  const bar = el("span.size-bar");
  bar.style.width = `${Math.max(1, (100 * size) / most)}%`;
  return el(`section.cluster-card.c${colour % HUES}`, { "aria-label": label, ...properties },
    el(".cluster-head", {}, el(`span.dot.shape${Math.floor(colour / HUES) % SHAPES}`), ...head),
    el(".size", { "aria-hidden": "true" }, bar), pictures, el(".links", {}, ...links));
}
