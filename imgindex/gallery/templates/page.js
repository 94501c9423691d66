"use strict";
// Every page: pictures that are in several places, the filter by path, and the large view of a picture.
(() => {
  const $ = (id) => document.getElementById(id);
  for (const copy of document.querySelectorAll("img[data-copy]")) {
    copy.src = $(copy.dataset.copy).src;
  }

  const sections = [...document.querySelectorAll("section:not(.map, .curve)")];
  const filter = () => {
    const text = $("filter").value.trim().toLowerCase();
    const found = new Set();
    for (const card of document.querySelectorAll(".card")) {
      const matches = card.dataset.path.toLowerCase().includes(text);
      card.hidden = !matches && !card.closest(".pair");
      if (matches) found.add(card.dataset.path);
    }
    for (const section of sections) {
      const own = [...section.querySelectorAll(".card")];
      section.hidden = text !== "" && !own.some((card) => card.dataset.path.toLowerCase().includes(text));
    }
    for (const strip of document.querySelectorAll(".strip")) {
      strip.hidden = ![...strip.querySelectorAll(".card")].some((card) => !card.hidden);
    }
    $("filtered").textContent = text ? `${found.size.toLocaleString("en")} shown` : "";
    $("nothing").hidden = text === "" || found.size > 0;
    document.dispatchEvent(new CustomEvent("filtered", { detail: text }));
  };
  $("filter").addEventListener("input", filter);
  // Browsers keep the text of the filter when a page is reloaded.
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
    $("large-detail").textContent = button.dataset.detail;
    $("large-link").hidden = !button.dataset.href;
    if (button.dataset.href) $("large-link").href = button.dataset.href;
    $("previous").disabled = place === 0;
    $("next").disabled = place === row.length - 1;
  };
  const step = (by) => {
    const next = place + by;
    if (next < 0 || next >= row.length) return;
    place = next;
    show();
  };
  $("content").addEventListener("click", (event) => {
    const button = event.target.closest("button.picture");
    if (!button) return;
    const container = button.closest(".strip, .group, .query, .pairs, .portrait, .all, main");
    row = [...container.querySelectorAll("button.picture")].filter((one) => one.checkVisibility());
    place = row.indexOf(button);
    show();
    large.showModal();
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => row[place].focus());
  large.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
})();
