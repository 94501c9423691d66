// The bar of selected images: tags, paths, a list as a file, and the command line that lists the same images.

import { get, getBlob, send } from "./api.js";
import { commandLine } from "./command_lines.js";
import { count, el, say } from "./dom.js";
import { MOST_SELECTED, total } from "./grid.js";

// The most images that a command line names.
const MOST_NAMED = 30;

export class Selection {
  // ids: returns the ids of the selected images. more: further elements of the bar. tagged: called after tags changed.
  constructor({ ids, more = [], tagged = () => {}, clear, problem }) {
    this.ids = ids;
    this.tagged = tagged;
    this.problem = problem;
    this.number = el("strong");
    this.tagNames = el("datalist", { id: "tags" });
    this.tagName = el("input.changes", { placeholder: "tag", "aria-label": "Tag", maxLength: 100, autocomplete: "off", list: "tags",
      onfocus: () => this.listTags() });
    this.done = el("span.done", { role: "status" });
    this.element = el("form.selection", { hidden: true, onsubmit: (event) => { event.preventDefault(); this.tag(true); } },
      this.number, ...more, this.tagName, this.tagNames, el("button.changes", {}, "Add tag"),
      el("button.changes", { type: "button", onclick: () => this.tag(false) }, "Remove tag"),
      el("button", { type: "button", onclick: () => this.copyPaths() }, "Copy paths"),
      el("button", { type: "button", onclick: () => this.save() }, "Save list"),
      el("button", { type: "button", onclick: clear }, "Clear"), this.done);
  }

  show(size) {
    this.element.hidden = size === 0;
    this.number.textContent = `${size.toLocaleString("en")} selected`;
    this.done.replaceChildren();
    if (size) say(`${size} selected`);
  }

  async listTags() {
    const tags = await get("/tags").catch(() => []);
    this.tagNames.replaceChildren(...tags.map((one) => el("option", { value: one.tag })));
  }

  async tag(add) {
    const tag = this.tagName.value.trim();
    if (!tag) {
      this.tagName.focus();
      return;
    }
    await this.attempt(async () => {
      const ids = this.checkedIds();
      const report = await send("PUT", "/images/tags", { ids, [add ? "add" : "remove"]: [tag] });
      const changed = (add ? report.added : report.removed)[tag];
      const undo = el("button", { type: "button", onclick: async () => {
        await this.attempt(() => send("PUT", "/images/tags", { ids: changed, [add ? "remove" : "add"]: [tag] }));
        this.report("undone");
        this.tagged();
      } }, "Undo");
      this.report(`${total(changed.length)} ${add ? "tagged" : "changed"} `, changed.length ? undo : "",
        add ? list(`tags match '${tag.replaceAll("'", "''")}'`) : "");
      this.tagged();
    });
  }

  // A view of the selected images.
  async view() {
    return send("POST", "/views", { ids: this.checkedIds() });
  }

  async copyPaths() {
    await this.attempt(async () => {
      const { view } = await this.view();
      const text = await (await getBlob(`/views/${view}/export?format=paths`)).text();
      await navigator.clipboard.writeText(text.trimEnd());
      this.report(`${count(this.ids().length, "path")} copied`);
    });
  }

  async save() {
    await this.attempt(async () => {
      const { view } = await this.view();
      const url = URL.createObjectURL(await getBlob(`/views/${view}/export?format=csv`));
      el("a", { href: url, download: "images.csv" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
      const ids = this.ids();
      this.report("saved ",
        ids.length > MOST_NAMED ? "(tag the images to list them in a terminal)" : list(`id in (${ids.join(", ")})`, " --out images.csv"));
    });
  }

  report(...parts) {
    this.done.replaceChildren(...parts);
    // On a narrow screen the bar scrolls.
    this.done.scrollIntoView({ block: "nearest", inline: "start" });
  }

  checkedIds() {
    const ids = this.ids();
    if (ids.length > MOST_SELECTED) throw new Error(`At most ${total(MOST_SELECTED)} can be tagged or exported at once.`);
    return ids;
  }

  async attempt(act) {
    try {
      return await act();
    } catch (error) {
      this.problem(error);
      return null;
    }
  }
}

// The command line that lists the images which fulfil a condition.
function list(where, more = " --format paths") {
  return commandLine(`imgindex list --where "${where.replace(/[\\"$`]/g, "\\$&")}"${more}`);
}
