// The lists of all images of a cluster: made when they are opened, a part at a time, and filtered by path.
(() => {
  const source = document.getElementById("list-data");
  if (!source) return;
  const { pictures, lists } = JSON.parse(source.textContent);
  const PART = 120;
  let text = "";

  // Images that the page shows in full: their pictures are not in it twice.
  const shown = new Map();
  for (const button of document.querySelectorAll("button.picture")) {
    const image = button.querySelector("img");
    shown.set(Number(button.dataset.id), { src: image.src, href: button.dataset.href || "" });
  }
  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const card = ([id, name, distance]) => {
    const [data, href, reason] = pictures[id] || ["", "", ""];
    const picture = shown.get(id) || { src: data ? `data:image/webp;base64,${data}` : "", href };
    const detail = distance.toFixed(3);
    let drawn;
    if (picture.src) {
      drawn = element("button", { type: "button", className: "picture", title: name });
      Object.assign(drawn.dataset, { id, path: name, detail });
      if (picture.href) drawn.dataset.href = picture.href;
      drawn.append(element("img", { src: picture.src, alt: name, loading: "lazy", decoding: "async" }));
    } else {
      drawn = element("div", { className: "picture missing", title: name });
      drawn.append(element("span", { textContent: "picture not available" }), element("small", { textContent: reason }));
    }
    const file = element("span", { className: "name", title: name, textContent: name.slice(name.lastIndexOf("/") + 1) });
    const caption = element("figcaption", {}, file, element("span", { className: "detail", textContent: detail }));
    const figure = element("figure", { className: "card" }, drawn, caption);
    figure.dataset.path = name;
    return figure;
  };

  // Of all images, on the page or only in a list, how many the filter leaves.
  const names = new Set([...document.querySelectorAll(".card")].map((one) => one.dataset.path));
  for (const list of Object.values(lists)) for (const [, name] of list) names.add(name);
  const count = () => {
    const found = [...names].filter((name) => name.toLowerCase().includes(text)).length;
    document.getElementById("filtered").textContent = text ? `${found.toLocaleString("en")} shown` : "";
    document.getElementById("nothing").hidden = text === "" || found > 0;
  };
  document.addEventListener("filtered", (event) => { text = event.detail; count(); });

  for (const list of document.querySelectorAll("details.all")) {
    const grid = list.querySelector(".grid");
    const more = list.querySelector(".more");
    const all = lists[list.dataset.label];
    let matching = all;
    let next = 0;
    const add = () => {
      grid.append(...matching.slice(next, next + PART).map(card));
      next = Math.min(next + PART, matching.length);
      more.hidden = next >= matching.length;
      more.textContent = `Show more: ${(matching.length - next).toLocaleString("en")} left`;
    };
    const renew = () => {
      grid.replaceChildren();
      matching = text ? all.filter((one) => one[1].toLowerCase().includes(text)) : all;
      next = 0;
      if (list.open) add();
    };
    list.addEventListener("toggle", () => { if (list.open && !next) add(); });
    more.addEventListener("click", add);
    document.addEventListener("filtered", () => {
      renew();
      if (text && matching.length) list.closest("section").hidden = false;
      list.hidden = matching.length === 0;
    });
  }
  // The browser may have kept the text of the filter: page.js applied it before the lists and the map were there.
  queueMicrotask(() => document.getElementById("filter").dispatchEvent(new Event("input")));
})();
