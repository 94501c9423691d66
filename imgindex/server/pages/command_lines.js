// The command lines of imgindex that a page shows.

import { server } from "./api.js";
import { command, el, quoted, state } from "./dom.js";

// A command line for the index of this server. The command finds one that is called .imgindex by itself.
export function commandLine(line) {
  return command(/\/\.imgindex$/.test(server.index) ? line : `${line} --index ${quoted(server.index)}`);
}

export function emptyIndex() {
  return state("The index is empty", el("p", {}, "Add a folder of images in a terminal:"), commandLine("imgindex add FOLDER"));
}

// How a page is saved as one file: by the command that writes it. The server itself writes no files.
export function saving(line) {
  return el("details.save", {}, el("summary", {}, "Save this page"),
    el("p.hint", {}, "This writes it as one file with the pictures inside, which needs no server:"), commandLine(line));
}
