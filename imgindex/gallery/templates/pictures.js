// The pictures of images, inside this page. The page of a server has a module of the same name, which fetches them.

import { el } from "./dom.js";

export const data = JSON.parse(document.getElementById("data").textContent);

// The items of a list are the images of the page, each once; `id` is its place in the list.
export const items = data.items.map(([picture, path, width, height, size, href], id) =>
  ({ id, picture, href, image: { path, width, height, size } }));

export function known(id) {
  const [bytes, reason, side] = data.pictures[items[id].picture] ?? ["", "this page has no picture of it", 0];
  return { url: bytes ? `data:image/webp;base64,${bytes}` : "", reason, side };
}

export async function loadPictures(ids, done) {
  for (const id of ids) done(id, known(id));
}

// The image's own file, where the page stands beside it and the browser can show it; or else the picture in the page.
export async function largePicture(item) {
  const { url, reason, side } = known(item.id);
  const { width, height } = item.image;
  if (item.href && location.protocol === "file:" && (!width || Math.max(width, height) > side)) {
    const original = el("img", { src: item.href });
    try {
      await original.decode();
      return { url: item.href, release: () => {} };
    } catch {
      // It has been moved, or is of a format that browsers do not show.
    }
  }
  if (!url) throw new Error(reason);
  return { url, release: () => {} };
}
