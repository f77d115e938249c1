
"use strict";
const make = (name, more) => Object.assign(document.createElement(name), more);
const inside = (shape, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(shape.getScreenCTM().inverse());
const clamp = (value, end) => Math.max(0, Math.min(end - 1, value));
const range = (length, each = (i) => i) => Array.from({ length }, (_, i) => each(i));
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Calls `at` with where the pointer is on `shape`, and `by` with the rows and columns an arrow key moves.
function follow(svg, shape, at, by) {
  const title = svg.querySelector("title"); // its tooltip would cover what is pointed at
  svg.setAttribute("aria-label", title.textContent);
  title.remove();
  svg.tabIndex = 0;
  for (const kind of ["pointermove", "pointerdown"]) shape.addEventListener(kind, (event) => at(inside(shape, event)));
  svg.addEventListener("keydown", (event) => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    by(...ARROWS[event.key]);
  });
}

function curves(svg) {
  const stops = JSON.parse(svg.dataset.hover), output = svg.parentElement.querySelector("output");
  svg.insertAdjacentHTML("beforeend", '<path class="cross"/><g></g>');
  const cross = svg.querySelector(".cross"), dots = svg.lastElementChild, bottom = svg.viewBox.baseVal.height - 26;
  let now;
  const show = (index, mark = true) => {
    now = clamp(index, stops.length);
    const [x, when, values] = stops[now];
    output.textContent = [when, ...values.map((value) => value[1])].join(" · ");
    cross.setAttribute("d", mark ? `M${x} 8V${bottom}` : "");
    dots.innerHTML = mark ? values.map(([y, , look]) => `<circle class="${look}" cx="${x}" cy="${y}" r="4"/>`).join("") : "";
  };
  const far = (x, i) => Math.abs(stops[i][0] - x);
  const nearest = (x) => range(stops.length).reduce((best, i) => (far(x, i) < far(x, best) ? i : best));
  follow(svg, svg, (point) => show(nearest(point.x)), (_, by) => show(now + by));
  svg.addEventListener("pointerleave", () => show(stops.length - 1, false));
  show(stops.length - 1, false);
}

function attention(article) {
  const box = article.querySelector(".maps"), figures = [...box.querySelectorAll("figure")];
  const maps = JSON.parse(article.querySelector("script").textContent).map((map, i) => ({
    ...map,
    figure: figures[i],
    bytes: Uint8Array.from(atob(map.weights), (letter) => letter.charCodeAt(0)),
    texts: ["row", "column"].map((side) => [...figures[i].querySelectorAll(`text.${side}`)]),
  }));
  const controls = make("div", { className: "controls" }), heads = make("div", { className: "heads" });
  const [which, layer, head] = ["attention", "layer", "head"].map((name) => {
    const label = make("label", { textContent: name }), select = make("select");
    select.addEventListener("change", () => draw(select === which));
    label.append(select);
    controls.append(label);
    return select;
  });
  const fill = (select, names, value) => {
    select.replaceChildren(...names.map((name, i) => make("option", { textContent: name, value: i })));
    select.value = value;
  };
  let map, now;

  // The weights of a head of the chosen layer; the head after the last is the mean of all.
  function weights(h) {
    const size = map.texts[0].length * map.texts[1].length, first = layer.value * map.heads;
    const chosen = h < map.heads ? [h] : range(map.heads);
    return range(size, (i) => chosen.reduce((sum, k) => sum + map.bytes[(first + k) * size + i], 0) / chosen.length / 255);
  }

  function draw(another) {
    map = maps[which.value];
    for (const one of maps) one.figure.hidden = one !== map;
    if (another) {
      fill(layer, range(map.layers, (i) => i + 1), map.layers - 1);
      fill(head, [...range(map.heads, (i) => i + 1), "mean"], map.heads);
    }
    now = weights(+head.value);
    const most = Math.max(...now), wide = map.texts[1].length;
    const what = +head.value < map.heads ? `head ${+head.value + 1}` : "mean over heads";
    map.figure.querySelector("figcaption span").textContent = `layer ${+layer.value + 1}, ${what}, strongest ${most.toFixed(2)}`;
    map.figure.querySelector(".cells").innerHTML = now.map((w, i) => {
      const [x, y] = [20 * (i % wide), 20 * Math.floor(i / wide)];
      return `<rect x="${x}" y="${y}" width="19" height="19" fill-opacity="${(w / (most || 1)).toFixed(3)}"/>`;
    }).join("");
    const all = range(map.heads, weights), top = Math.max(...all.flat()) || 1;
    heads.replaceChildren(...all.map((w, h) => small(w, h, wide, top)));
  }

  function small(w, h, wide, top) {
    const button = make("button", { type: "button", textContent: `head ${h + 1}`, ariaPressed: String(+head.value === h) });
    const canvas = make("canvas", { width: wide, height: w.length / wide }), brush = canvas.getContext("2d");
    brush.fillStyle = getComputedStyle(document.body).getPropertyValue("--heat");
    w.forEach((value, i) => {
      brush.globalAlpha = value / top;
      brush.fillRect(i % wide, Math.floor(i / wide), 1, 1);
    });
    button.append(canvas);
    button.addEventListener("click", () => {
      head.value = +head.value === h ? map.heads : h;
      draw();
      heads.children[h].focus();
    });
    return button;
  }

  for (const { figure, texts } of maps) {
    const cells = figure.querySelector(".cells"), output = figure.querySelector("output");
    let at = [0, 0];
    const show = (...to) => {
      at = texts.map((side, k) => clamp(to[k], side.length));
      texts.forEach((side, k) => side.forEach((text, i) => text.classList.toggle("on", i === at[k])));
      const [row, column] = texts.map((side, k) => side[at[k]].dataset.token);
      output.textContent = `${row} → ${column}: ${now[at[0] * texts[1].length + at[1]].toFixed(2)}`;
    };
    const point = (p) => show(Math.floor(p.y / 20), Math.floor(p.x / 20));
    follow(figure.querySelector("svg"), cells, point, (down, right) => show(at[0] + down, at[1] + right));
  }
  fill(which, figures.map((figure) => figure.querySelector("b").textContent), figures.findIndex((figure) => !figure.hidden));
  box.before(controls);
  box.append(heads);
  draw(true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
}

document.querySelectorAll("svg[data-hover]").forEach(curves);
document.querySelectorAll("article:has(.maps)").forEach(attention);
