// Requests to the server, its events, and packs of thumbnails. The token stays in this tab.

const KEY = "imgindex-token";
export const bus = new EventTarget();
export const server = { etag: null, readOnly: false, index: "" };
let token = "";
// Requests so far, and the last of those whose answers may be older than the tag that is known.
let asked = 0, passed = 0;
const TAGS = 50;
const tags = new Set();

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || "the server does not answer");
    this.status = status;
    this.type = document.type || "";
    this.hint = document.hint || "";
  }
}

// Take the token out of the address, so that it is in no history and no bookmark.
export function takeToken() {
  const given = /^#token=([\w-]+)$/.exec(location.hash);
  if (given) {
    sessionStorage.setItem(KEY, given[1]);
    history.replaceState(null, "", "#/images");
  }
  token = sessionStorage.getItem(KEY) || "";
  return token !== "";
}

async function ask(path, options = {}) {
  asked += 1;
  const number = asked;
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      ...options,
      headers: { Authorization: `Bearer ${token}`, ...options.headers },
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    bus.dispatchEvent(new Event("lost"));
    throw new Problem(0, {});
  }
  if (!answer.ok) {
    const document = await answer.json().catch(() => ({ detail: `the server answered ${answer.status}` }));
    if (answer.status === 401) bus.dispatchEvent(new Event("unauthorized"));
    throw new Problem(answer.status, document);
  }
  if (answer.headers.has("ETag")) noteTag(answer.headers.get("ETag"), number, Boolean(options.headers?.["If-Match"]));
  return answer;
}

// Keep the newest tag: what was asked for before a change may be answered after it, with the tag of the time before.
function noteTag(tag, number, isChange) {
  tags.add(tag);
  if (tags.size > TAGS) tags.delete(tags.values().next().value);
  if (!isChange && number <= passed) return;
  server.etag = tag;
  passed = isChange ? asked : number;
}

// Whether a commit is one that answers did not come from.
export function isNews(tag) {
  return !tags.has(tag);
}

export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

export async function getPart(path, signal) {
  const answer = await ask(path, { signal });
  const next = /<\/api\/v1([^>]+)>/.exec(answer.headers.get("Link") || "");
  return { data: await answer.json(), next: next ? next[1] : null };
}

export async function getBytes(path, signal) {
  return (await ask(path, { signal })).arrayBuffer();
}

export async function getBlob(path, signal) {
  return (await ask(path, { signal })).blob();
}

export async function send(method, path, data, signal) {
  const headers = { "Content-Type": "application/json" };
  if (server.etag !== null) headers["If-Match"] = server.etag;
  const body = data === undefined ? undefined : JSON.stringify(data);
  return (await ask(path, { method, headers, body, signal })).json();
}

export async function similarTo(file, n, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await ask(`/similar?n=${n}`, { method: "POST", headers, body: file, signal })).json();
}

// Yield [id, blob or null, reason] as soon as each is here.
export async function* thumbnails(ids, signal) {
  const reader = (await ask(`/thumbnails?ids=${ids.join(",")}`, { signal })).body.getReader();
  let data = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(data.length + value.length);
    joined.set(data);
    joined.set(value, data.length);
    data = joined;
    for (;;) {
      if (data.length < 12) break;
      const head = new DataView(data.buffer, data.byteOffset, 12);
      const [place, kind, length] = [0, 4, 8].map((at) => head.getUint32(at, true));
      if (data.length < 12 + length) break;
      const part = data.subarray(12, 12 + length);
      if (kind === 0) yield [ids[place], new Blob([part], { type: "image/webp" }), ""];
      else yield [ids[place], null, new TextDecoder().decode(part)];
      data = data.subarray(12 + length);
    }
  }
}

// Listen to events for ever; "lost" and "found" say whether the server answers.
export async function listen() {
  let pause = 500;
  for (;;) {
    try {
      const reader = (await ask("/events")).body.pipeThrough(new TextDecoderStream()).getReader();
      bus.dispatchEvent(new Event("found"));
      pause = 500;
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const one of events) {
          const parts = /^event: (\w+)\ndata: (.*)$/.exec(one);
          if (parts) bus.dispatchEvent(new CustomEvent(parts[1], { detail: JSON.parse(parts[2]) }));
        }
      }
    } catch (error) {
      if (error.status === 401) return;
    }
    bus.dispatchEvent(new Event("lost"));
    await new Promise((resume) => setTimeout(resume, pause));
    pause = Math.min(8000, pause * 2);
  }
}
