// How a page is saved as one file: by the command that writes it. The server itself writes no files.

import { server } from "./api.js";
import { command, el, quoted } from "./dom.js";

export function saving(line) {
  const index = /\/\.imgindex$/.test(server.index) ? "" : ` --index ${quoted(server.index)}`;
  return el("details.save", {}, el("summary", {}, "Save this page"),
    el("p.hint", {}, "This writes it as one file with the pictures inside, which needs no server:"), command(`${line}${index}`));
}
