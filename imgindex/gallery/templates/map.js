// The map of a page of clusters: marks on a canvas, one colour and shape for each cluster.
(() => {
  const source = document.getElementById("map-data");
  if (!source) return;
  const { ids, paths, labels, xy } = JSON.parse(source.textContent);
  const small = JSON.parse(document.getElementById("list-data").textContent).pictures;
  const $ = (id) => document.getElementById(id);
  const canvas = $("canvas");
  const pen = canvas.getContext("2d");
  const keys = [...document.querySelectorAll(".key")];
  const titles = new Map(keys.map((key) => [Number(key.dataset.label), key.dataset.title]));
  const off = new Set();
  const COLOURS = 8;
  const SHAPES = 4;
  const REACH = 14;
  const count = paths.length;
  let method = Object.keys(xy)[0];
  let points = xy[method].map((point) => [...point]);
  let view = { x: 0, y: 0, scale: 1 };
  let size = { width: 0, height: 0 };
  let marked = -1;
  let pinned = -1;
  let matching = null;
  let colours = [];

  const pictures = new Map();
  for (const button of document.querySelectorAll("button.picture")) {
    pictures.set(Number(button.dataset.id), button);
  }
  const pictureOf = (i) => {
    const shown = pictures.get(ids[i]);
    if (shown) return shown.querySelector("img").src;
    const [data] = small[ids[i]] || [];
    return data ? `data:image/webp;base64,${data}` : "";
  };

  const unit = () => (Math.min(size.width, size.height) / 2 - 22) * view.scale;
  const place = (i) => [
    size.width / 2 + (points[i][0] - view.x) * unit(),
    size.height / 2 - (points[i][1] - view.y) * unit(),
  ];
  const visible = (i) => !off.has(labels[i]);
  const radius = () => Math.max(2, Math.min(6, 90 / Math.sqrt(count + 80))) * Math.min(2, Math.sqrt(view.scale));

  const mark = (x, y, r, shape) => {
    pen.beginPath();
    if (shape === 0) pen.arc(x, y, r, 0, 7);
    else if (shape === 1) pen.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
    else if (shape === 2) { pen.moveTo(x, y - r * 1.1); pen.lineTo(x + r * 1.1, y + r * 0.9); pen.lineTo(x - r * 1.1, y + r * 0.9); pen.closePath(); }
    else { pen.moveTo(x, y - r * 1.2); pen.lineTo(x + r * 1.2, y); pen.lineTo(x, y + r * 1.2); pen.lineTo(x - r * 1.2, y); pen.closePath(); }
  };
  const paint = (i, r) => {
    const [x, y] = place(i);
    if (x < -r || y < -r || x > size.width + r || y > size.height + r) return;
    pen.fillStyle = colours[labels[i] % COLOURS];
    mark(x, y, r, Math.floor(labels[i] / COLOURS) % SHAPES);
    pen.fill();
  };
  const ring = (i, width) => {
    if (i < 0) return;
    const [x, y] = place(i);
    const r = radius() + 2;
    paint(i, r);
    pen.strokeStyle = colours[COLOURS];
    pen.lineWidth = width;
    pen.stroke();
  };
  let waiting = false;
  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const ratio = window.devicePixelRatio || 1;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, size.width, size.height);
      const r = radius();
      for (const matches of matching ? [false, true] : [true]) {
        pen.globalAlpha = matches ? (count > 4000 ? 0.7 : 0.85) : 0.12;
        for (let i = 0; i < count; i++) {
          if (visible(i) && (!matching || matching[i] === matches)) paint(i, r);
        }
      }
      pen.globalAlpha = 1;
      ring(pinned, 2.5);
      ring(marked, 1.5);
    });
  };

  const resize = () => {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    size = { width: box.width, height: box.height };
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    draw();
  };
  const readColours = () => {
    const style = getComputedStyle(document.documentElement);
    colours = [...Array(COLOURS).keys()].map((i) => style.getPropertyValue(`--c${i}`).trim());
    colours.push(style.getPropertyValue("--ink").trim());
    draw();
  };

  const nearest = (x, y, reach) => {
    let best = -1;
    let least = reach * reach;
    for (let i = 0; i < count; i++) {
      if (!visible(i) || (matching && !matching[i])) continue;
      const [px, py] = place(i);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far <= least) { least = far; best = i; }
    }
    return best;
  };
  const hover = $("hover");
  const pointAt = (i) => {
    if (i === marked) return;
    marked = i;
    hover.hidden = i < 0;
    if (i >= 0) {
      const image = hover.querySelector("img");
      const src = pictureOf(i);
      image.hidden = !src;
      if (src) image.src = src;
      hover.querySelector(".hover-name").textContent = paths[i];
      hover.querySelector(".hover-cluster").textContent = titles.get(labels[i]);
      const [x, y] = place(i);
      const left = x > size.width / 2 ? x - 206 : x + 16;
      hover.style.left = `${Math.max(4, Math.min(size.width - 196, left))}px`;
      hover.style.top = `${Math.max(4, Math.min(y - 40, size.height - 40 - hover.offsetHeight))}px`;
    }
    draw();
  };
  const pin = (i) => {
    pinned = i;
    if (i >= 0) {
      const card = [];
      const src = pictureOf(i);
      if (src) {
        const image = document.createElement("img");
        image.src = src;
        image.alt = "";
        card.push(image);
      }
      const name = document.createElement("p");
      name.textContent = paths[i];
      const cluster = document.createElement("p");
      const link = document.createElement("a");
      link.href = `#cluster-${labels[i]}`;
      link.textContent = titles.get(labels[i]);
      cluster.append(link);
      const shown = pictures.get(ids[i]);
      if (shown && shown.dataset.href) {
        const file = document.createElement("a");
        file.href = shown.dataset.href;
        file.textContent = "open file";
        cluster.append(" · ", file);
      }
      card.push(name, cluster);
      $("pinned").replaceChildren(...card);
    }
    draw();
  };

  const zoom = (by, x = size.width / 2, y = size.height / 2) => {
    const before = unit();
    view.scale = Math.max(1, Math.min(60, view.scale * by));
    const after = unit();
    view.x += (x - size.width / 2) * (1 / before - 1 / after);
    view.y -= (y - size.height / 2) * (1 / before - 1 / after);
    if (view.scale === 1) view = { x: 0, y: 0, scale: 1 };
    pointAt(-1);
    draw();
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = at(event);
    held = { x, y, view: { ...view }, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!held) { pointAt(nearest(x, y, REACH)); return; }
    if (Math.hypot(x - held.x, y - held.y) > 4) held.moved = true;
    if (held.moved) {
      view.x = held.view.x - (x - held.x) / unit();
      view.y = held.view.y + (y - held.y) / unit();
      pointAt(-1);
      draw();
    }
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, y] = at(event);
    if (held && !held.moved) {
      const found = nearest(x, y, REACH);
      if (found >= 0) pin(found);
    }
    held = null;
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointerleave", () => { if (!held) pointAt(-1); });
  canvas.addEventListener("dblclick", (event) => zoom(2, ...at(event)));
  canvas.addEventListener("wheel", (event) => {
    // The wheel alone scrolls the page.
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, ...at(event));
  }, { passive: false });
  $("zoom-in").addEventListener("click", () => zoom(1.6));
  $("zoom-out").addEventListener("click", () => zoom(1 / 1.6));
  $("zoom-all").addEventListener("click", () => zoom(0));

  const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const direction = DIRECTIONS[event.key];
    if (event.key === "Enter" && marked >= 0) pin(marked);
    if (event.key === "Escape") pointAt(-1);
    if (event.key === "+" || event.key === "=") zoom(1.6);
    if (event.key === "-") zoom(1 / 1.6);
    if (!direction) return;
    event.preventDefault();
    const from = marked >= 0 ? place(marked) : [size.width / 2, size.height / 2];
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === marked || !visible(i) || (matching && !matching[i])) continue;
      const [x, y] = place(i);
      const along = (x - from[0]) * direction[0] + (y - from[1]) * direction[1];
      const aside = Math.abs((x - from[0]) * direction[1]) + Math.abs((y - from[1]) * direction[0]);
      if (along <= 0 || aside > 2 * along) continue;
      if (along + 2 * aside < least) { least = along + 2 * aside; best = i; }
    }
    if (best >= 0) pointAt(best);
  });

  const toggle = () => {
    for (const key of keys) key.setAttribute("aria-pressed", String(!off.has(Number(key.dataset.label))));
    pointAt(-1);
    draw();
  };
  for (const key of keys) {
    key.addEventListener("click", () => {
      const label = Number(key.dataset.label);
      if (!off.delete(label)) off.add(label);
      toggle();
    });
  }
  $("all-clusters")?.addEventListener("click", () => { off.clear(); toggle(); });
  $("no-clusters")?.addEventListener("click", () => { for (const label of titles.keys()) off.add(label); toggle(); });
  document.addEventListener("filtered", (event) => {
    matching = event.detail ? paths.map((path) => path.toLowerCase().includes(event.detail)) : null;
    if (matching) {
      const found = matching.filter(Boolean).length;
      $("filtered").textContent += `, ${found.toLocaleString("en")} on the map`;
    }
    draw();
  });

  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const button of document.querySelectorAll(".method")) {
    button.addEventListener("click", () => {
      method = button.dataset.method;
      for (const other of document.querySelectorAll(".method")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      pointAt(-1);
      const from = points.map((point) => [...point]);
      const to = xy[method];
      const began = performance.now();
      const glide = (now) => {
        if (to !== xy[method]) return;
        const share = still ? 1 : Math.min(1, (now - began) / 500);
        const eased = 1 - (1 - share) ** 3;
        points = to.map((point, i) => [0, 1].map((axis) => from[i][axis] + (point[axis] - from[i][axis]) * eased));
        draw();
        if (share < 1) requestAnimationFrame(glide);
      };
      requestAnimationFrame(glide);
    });
  }

  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  new ResizeObserver(resize).observe(canvas);
  readColours();
  resize();
})();
