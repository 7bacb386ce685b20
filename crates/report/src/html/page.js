"use strict";
// Adds to a page that is complete without it: what a mark says on hover, focus and arrow keys, the
// way that led to it in every plot at once, and buttons that unfold. Foreign text is only ever moved
// from one text node to another.
(() => {
  const marks = new Map(); // iteration -> its marks in all plots
  const plots = [...document.querySelectorAll(".plot")].filter((plot) => plot.querySelector(".ev"));

  for (const plot of plots) {
    const svg = plot.querySelector("svg.area");
    const title = svg.querySelector(":scope > title");
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    tip.setAttribute("role", "status");
    plot.append(tip);
    // The browser's own hint would lie over ours.
    svg.setAttribute("aria-label", title.textContent + ". Arrow keys move from mark to mark.");
    svg.removeAttribute("aria-labelledby");
    title.remove();
    svg.setAttribute("tabindex", "0");
    const all = [...svg.querySelectorAll(".ev")];
    for (const mark of all) {
      const words = mark.querySelector("title");
      mark.words = words.textContent;
      words.remove();
      if (!marks.has(mark.dataset.i)) marks.set(mark.dataset.i, []);
      marks.get(mark.dataset.i).push(mark);
      mark.addEventListener("pointerenter", () => show(plot, mark));
      mark.addEventListener("click", () => show(plot, mark));
    }
    svg.addEventListener("pointerleave", clear);
    svg.addEventListener("blur", clear);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (event.key === "Escape") clear();
      if (!step && event.key !== "Home" && event.key !== "End") return;
      event.preventDefault();
      const row = [...all].sort((a, b) => left(a) - left(b));
      const now = row.indexOf(plot.picked);
      let next = event.key === "Home" ? 0 : row.length - 1;
      if (step) next = now < 0 ? (step > 0 ? 0 : row.length - 1) : now + step;
      if (row[next]) show(plot, row[next]);
    });
  }

  function left(mark) {
    return parseFloat(mark.getAttribute("cx") || mark.getAttribute("x"));
  }

  // The iterations from a mark back to the reference.
  function way(mark) {
    const seen = new Set();
    let at = mark;
    while (at && !seen.has(at.dataset.i)) {
      seen.add(at.dataset.i);
      const from = marks.get(at.dataset.from);
      at = from && from[0];
    }
    return seen;
  }

  function clear() {
    for (const plot of plots) {
      plot.classList.remove("picking");
      plot.picked = null;
      plot.querySelector(".tip").hidden = true;
    }
    for (const mark of document.querySelectorAll(".picked, .way")) mark.classList.remove("picked", "way");
  }

  function show(plot, mark) {
    clear();
    plot.picked = mark;
    for (const iteration of way(mark)) {
      for (const one of marks.get(iteration)) one.classList.add("way");
    }
    for (const one of marks.get(mark.dataset.i)) one.classList.add("picked");
    for (const one of plots) one.classList.add("picking");
    const step = document.querySelector('.steps > li[data-i="' + Number(mark.dataset.i) + '"]');
    if (step) step.classList.add("picked");
    const tip = plot.querySelector(".tip");
    tip.textContent = mark.words;
    tip.hidden = false;
    const frame = plot.getBoundingClientRect();
    const box = mark.getBoundingClientRect();
    const x = box.left + box.width / 2 - frame.left;
    const y = box.top - frame.top;
    const widest = frame.width - tip.offsetWidth;
    tip.style.left = Math.max(0, Math.min(widest, x - tip.offsetWidth / 2)) + "px";
    const above = y - tip.offsetHeight - 10;
    tip.style.top = (above >= 0 ? above : y + box.height + 10) + "px";
  }

  const steps = document.querySelector(".steps");
  const folds = steps ? [...steps.querySelectorAll("details")] : [];
  if (folds.length > 1) {
    const button = document.createElement("button");
    button.className = "fold-all";
    button.type = "button";
    const label = () => {
      button.textContent = folds.every((fold) => fold.open) ? "Fold all differences" : "Unfold all differences";
    };
    button.addEventListener("click", () => {
      const open = !folds.every((fold) => fold.open);
      for (const fold of folds) fold.open = open;
      label();
    });
    for (const fold of folds) fold.addEventListener("toggle", label);
    label();
    steps.before(button);
  }
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
  });
  document.documentElement.dataset.ready = "yes";
})();
