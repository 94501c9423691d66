// The pictures of images, fetched from the server. A page that is a file has a module of the same name, with the pictures
// inside: what shows pictures imports one or the other.

import { getBlob, thumbnails } from "./api.js";

const PACK = 60, MOST_PICTURES = 900;

// Pictures of thumbnails by id, shared by all grids: those that were used last.
const pictures = new Map();

function remember(id, picture) {
  pictures.set(id, picture);
  if (pictures.size > MOST_PICTURES) {
    const [oldest, { url }] = pictures.entries().next().value;
    pictures.delete(oldest);
    if (url) URL.revokeObjectURL(url);
  }
}

// Fetch the pictures of ids that are not here, and call `done` with each.
export async function loadPictures(ids, done, signal) {
  const missing = [];
  for (const id of ids) {
    const known = pictures.get(id);
    if (known) {
      pictures.delete(id);
      pictures.set(id, known);
      done(id, known);
    } else missing.push(id);
  }
  for (let at = 0; at < missing.length; at += PACK) {
    for await (const [id, blob, reason] of thumbnails(missing.slice(at, at + PACK), signal)) {
      const picture = blob ? { url: URL.createObjectURL(blob), reason: "" } : { url: "", reason };
      remember(id, picture);
      done(id, picture);
    }
  }
}

export function known(id) {
  return pictures.get(id);
}

// The picture of an item, large enough for the window; `release` frees it.
export async function largePicture(item, signal) {
  const side = Math.min(2048, Math.ceil((Math.max(innerWidth, innerHeight) * devicePixelRatio) / 256) * 256);
  const url = URL.createObjectURL(await getBlob(`/images/${item.id}/picture?side=${side}`, signal));
  return { url, release: () => URL.revokeObjectURL(url) };
}
