"use strict";
// Every page: pictures that stand in two places, a filter by path, and pictures that open large.
(() => {
  const $ = (id) => document.getElementById(id);
  for (const copy of document.querySelectorAll("img[data-copy]")) {
    copy.src = $(copy.dataset.copy).src;
  }

  const cards = [...document.querySelectorAll(".card")];
  const sections = [...document.querySelectorAll("section:not(.map, .curve)")];
  const filter = () => {
    const wanted = $("filter").value.trim().toLowerCase();
    const found = new Set();
    for (const card of cards) {
      const fits = card.dataset.path.toLowerCase().includes(wanted);
      card.hidden = !fits && !card.closest(".pair");
      if (fits) found.add(card.dataset.path);
    }
    for (const section of sections) {
      const own = [...section.querySelectorAll(".card")];
      section.hidden = wanted !== "" && !own.some((card) => card.dataset.path.toLowerCase().includes(wanted));
    }
    for (const strip of document.querySelectorAll(".strip")) {
      strip.hidden = ![...strip.querySelectorAll(".card")].some((card) => !card.hidden);
    }
    $("filtered").textContent = wanted ? `${found.size.toLocaleString("en")} shown` : "";
    $("nothing").hidden = wanted === "" || found.size > 0;
    document.dispatchEvent(new CustomEvent("filtered", { detail: wanted }));
  };
  $("filter").addEventListener("input", filter);
  // Browsers put back what was typed when a page is loaded again.
  filter();
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      $("filter").focus();
    }
  });

  const large = $("large");
  let row = [];
  let place = 0;
  const show = () => {
    const button = row[place];
    $("large-image").src = button.querySelector("img").src;
    $("large-image").alt = $("large-name").textContent = button.dataset.path;
    $("large-said").textContent = button.dataset.said;
    $("large-link").hidden = !button.dataset.href;
    if (button.dataset.href) $("large-link").href = button.dataset.href;
    $("before").disabled = place === 0;
    $("after").disabled = place === row.length - 1;
  };
  const step = (by) => {
    const next = place + by;
    if (next < 0 || next >= row.length) return;
    place = next;
    show();
  };
  for (const button of document.querySelectorAll("button.picture")) {
    button.addEventListener("click", () => {
      const near = button.closest(".strip, .group, .query, .pairs, .portrait, main");
      row = [...near.querySelectorAll("button.picture")].filter((one) => one.checkVisibility());
      place = row.indexOf(button);
      show();
      large.showModal();
    });
  }
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => row[place].focus());
  large.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
})();
