// Elements, numbers and names. Text is always set as text: the page's policy allows no markup from strings.

// How many characters at its end a name keeps, and how many there must be before them.
const TAIL = 9, HEAD = 4;
const RIGHT_TO_LEFT = /\p{Script=Hebrew}|\p{Script=Arabic}|\p{Script=Syriac}|\p{Script=Thaana}|\p{Script=Nko}/u;
const BOX = 20, UNKNOWN = "\u{10fffd}";

export function el(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list" && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function count(number, noun, nouns = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : nouns}`;
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (number >= 999.5 && unit < units.length - 1) [number, unit] = [number / 1000, unit + 1];
  return `${unit && number < 99.5 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

// Control characters and halves of characters, which a file name may have, as escapes.
export function printable(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu, (char) =>
    `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function fileName(path) {
  return printable(path.slice(path.lastIndexOf("/") + 1));
}

export function folderOf(path) {
  return printable(path.slice(0, path.lastIndexOf("/")));
}

// The name of a file, cut in its middle where there is no room: names often differ at their ends only.
export function fileLabel(path, tag = "span.file") {
  const name = fileName(path);
  const chars = [...name];
  let end = Math.max(0, chars.length - TAIL);
  while (end > 0 && /\p{M}/u.test(chars[end])) end--;
  // Parts of a name that is read from right to left would change places.
  const parts = end < HEAD || RIGHT_TO_LEFT.test(name) ? [chars] : [chars.slice(0, end), chars.slice(end)];
  return el(tag, { title: printable(path) }, ...parts.map((part, at) => el(at ? "span.tail" : "span.head", {}, ...legible(part))));
}

// Characters as texts; one for which the browser has no font as its number, since all such ones look alike.
function legible(chars) {
  const made = [];
  for (const char of chars) {
    if (char > "\u024f" && !hasGlyph(char)) made.push(el("span.number", {}, char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")));
    else if (typeof made.at(-1) === "string") made.push(made.pop() + char);
    else made.push(char);
  }
  return made;
}

const glyphs = new Map();
let pen = null;

// Whether a character is drawn otherwise than one that no font has.
function hasGlyph(char) {
  if (/\p{M}|\p{Cf}/u.test(char)) return true;
  if (!pen) {
    pen = el("canvas", { width: BOX, height: BOX }).getContext("2d", { willReadFrequently: true });
    pen.font = `${BOX - 6}px ${getComputedStyle(document.body).fontFamily}`;
  }
  for (const one of [UNKNOWN, char]) {
    if (glyphs.has(one)) continue;
    pen.clearRect(0, 0, BOX, BOX);
    pen.fillText(one, 1, BOX - 6);
    glyphs.set(one, pen.getImageData(0, 0, BOX, BOX).data.join());
  }
  return glyphs.get(char) !== glyphs.get(UNKNOWN);
}

export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

export function say(text) {
  document.getElementById("live").textContent = text;
}

export function state(title, ...more) {
  return el(".state", {}, el("h2", {}, title), ...more);
}

// A button that copies a text, which `text` returns or promises; where it may not, it marks the text in `shown`.
export function copyButton(text, label = "copy", shown = null) {
  const button = el("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(await text());
      say("Copied");
      button.textContent = "copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    } catch {
      if (shown) getSelection().selectAllChildren(shown);
    }
  } }, label);
  return button;
}

export function command(text) {
  const code = el("code", {}, text);
  return el("p.command", {}, code, copyButton(() => text, "copy", code));
}
