// Elements, numbers and names. Text is always set as text: the page's policy allows no markup from strings.

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

// Two names that differ at the end only look alike when their ends are cut off.
export function shortened(name, most = 28) {
  if (name.length <= most) return name;
  const end = Math.floor(most * 0.45);
  return `${name.slice(0, most - end - 1)}…${name.slice(-end)}`;
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

export function command(text) {
  const copy = el("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
      copy.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(copy.previousSibling);
    }
  } }, "copy");
  return el("p.command", {}, el("code", {}, text), copy);
}
