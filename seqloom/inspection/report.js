
"use strict";
const make = (name, text = "", more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
const inside = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
const clamp = (value, end) => Math.max(0, Math.min(end - 1, value));

// The charts have a read-out of their own, so the browser's tooltip is in the way.
for (const svg of document.querySelectorAll("svg")) {
  const [title, words] = ["title", "desc"].map((name) => svg.querySelector(name));
  svg.setAttribute("aria-label", `${title.textContent}. ${words.textContent}`);
  title.remove();
}

for (const svg of document.querySelectorAll("svg[data-hover]")) {
  const stops = JSON.parse(svg.dataset.hover);
  const output = svg.parentElement.querySelector("output");
  const height = svg.viewBox.baseVal.height;
  svg.insertAdjacentHTML("beforeend", '<path class="cross"/><g></g>');
  const [cross, dots] = [svg.querySelector(".cross"), svg.lastElementChild];
  let at = stops.length - 1;
  const show = (index, draw = true) => {
    at = clamp(index, stops.length);
    const [x, when, values] = stops[at];
    output.textContent = [when, ...values.map((value) => value[1])].join("  ·  ");
    cross.setAttribute("d", draw ? `M${x} 8V${height - 26}` : "");
    dots.innerHTML = draw ? values.map(([y, , look]) => `<circle class="${look}" cx="${x}" cy="${y}" r="4"/>`).join("") : "";
  };
  const nearest = (x) => stops.reduce((best, stop, i) => (Math.abs(stop[0] - x) < Math.abs(stops[best][0] - x) ? i : best), 0);
  for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, (e) => show(nearest(inside(svg, e).x)));
  svg.addEventListener("pointerleave", () => show(stops.length - 1, false));
  svg.addEventListener("keydown", (e) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (by) { e.preventDefault(); show(at + by); }
  });
  svg.tabIndex = 0;
  show(at, false);
}

function attention(box) {
  const figures = [...box.querySelectorAll(".map")];
  const maps = JSON.parse(box.querySelector("script").textContent).map((map, i) => ({
    ...map,
    bytes: Uint8Array.from(atob(map.weights), (letter) => letter.charCodeAt(0)),
    rows: [...figures[i].querySelectorAll("text.row")],
    columns: [...figures[i].querySelectorAll("text.column")],
    names: figures[i].dataset,
  }));
  const controls = make("div", "", { className: "controls" });
  const heads = make("div", "", { className: "heads" });
  const choose = (name) => {
    const select = make("select");
    const label = make("label", name);
    label.append(select);
    controls.append(label);
    select.addEventListener("change", () => draw(name === "attention"));
    return select;
  };
  const [which, layer, head] = ["attention", "layer", "head"].map(choose);
  figures.forEach((figure, i) => which.append(make("option", figure.dataset.title, { value: i, selected: !figure.hidden })));
  figures[0].before(controls);
  figures.at(-1).after(heads);

  const weights = (map, l, h) => {
    const size = map.rows.length * map.columns.length;
    const part = (k) => map.bytes.subarray((l * map.heads + k) * size, (l * map.heads + k + 1) * size);
    const chosen = h < 0 ? [...Array(map.heads).keys()].map(part) : [part(h)];
    return Float32Array.from({ length: size }, (_, i) => chosen.reduce((sum, w) => sum + w[i], 0) / chosen.length / 255);
  };

  function draw(other) {
    const index = +which.value, map = maps[index], figure = figures[index];
    figures.forEach((one, i) => { one.hidden = i !== index; });
    if (other) {
      layer.replaceChildren(...Array.from({ length: map.layers }, (_, i) => make("option", i + 1, { value: i })));
      layer.value = map.layers - 1;
      const all = make("option", `mean of ${map.heads}`, { value: -1 });
      head.replaceChildren(all, ...Array.from({ length: map.heads }, (_, i) => make("option", i + 1, { value: i })));
    }
    const now = weights(map, +layer.value, +head.value), most = Math.max(...now) || 1, wide = map.columns.length;
    figure.shown = now;
    figure.querySelector(".what").textContent =
      `layer ${+layer.value + 1}, ${+head.value < 0 ? `mean of ${map.heads} heads` : `head ${+head.value + 1}`}, strongest ${most.toFixed(2)}`;
    const cells = [...now].map((w, i) =>
      `<rect x="${20 * (i % wide)}" y="${20 * Math.floor(i / wide)}" width="19" height="19" fill-opacity="${(w / most).toFixed(3)}"/>`);
    figure.querySelector(".cells").innerHTML = cells.join("");
    figure.querySelectorAll("tbody tr").forEach((tr, i) => {
      const row = now.subarray(i * wide, (i + 1) * wide), best = row.indexOf(Math.max(...row));
      tr.cells[1].textContent = map.columns[best].dataset.token;
      tr.cells[2].textContent = row[best].toFixed(2);
    });
    small(map);
  }

  function small(map) {
    const all = Array.from({ length: map.heads }, (_, h) => weights(map, +layer.value, h));
    const most = Math.max(...all.map((w) => Math.max(...w))) || 1, wide = map.columns.length;
    heads.replaceChildren(...all.map((w, h) => {
      const button = make("button", `head ${h + 1}`, { type: "button", ariaPressed: +head.value === h });
      const canvas = make("canvas", "", { width: wide, height: map.rows.length });
      const brush = canvas.getContext("2d");
      brush.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--heat");
      w.forEach((value, i) => { brush.globalAlpha = value / most; brush.fillRect(i % wide, Math.floor(i / wide), 1, 1); });
      button.addEventListener("click", () => {
        head.value = +head.value === h ? -1 : h;
        draw();
        heads.children[h].focus();
      });
      button.append(canvas);
      return button;
    }));
  }

  figures.forEach((figure, index) => {
    const svg = figure.querySelector("svg"), output = figure.querySelector("output");
    const { rows, columns } = maps[index];
    let at = [0, 0];
    const show = (i, j) => {
      at = [clamp(i, rows.length), clamp(j, columns.length)];
      [rows, columns].forEach((texts, side) => texts.forEach((text, k) => text.classList.toggle("on", k === at[side])));
      const weight = figure.shown[at[0] * columns.length + at[1]];
      output.textContent = `${rows[at[0]].dataset.token} → ${columns[at[1]].dataset.token}: ${weight.toFixed(2)}`;
    };
    const cells = svg.querySelector(".cells");
    for (const kind of ["pointermove", "pointerdown"]) {
      cells.addEventListener(kind, (e) => { const p = inside(cells, e); show(Math.floor(p.y / 20), Math.floor(p.x / 20)); });
    }
    svg.addEventListener("keydown", (e) => {
      const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
      if (by) { e.preventDefault(); show(at[0] + by[0], at[1] + by[1]); }
    });
    svg.tabIndex = 0;
  });
  draw(true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
}

for (const box of document.querySelectorAll(".attention:has(.map)")) attention(box);
