// What the report and the page of the server draw with: the report has this text in itself, the page imports it.
const SVG = new DOMParser().parseFromString("<svg/>", "text/html").querySelector("svg").namespaceURI;

// An element with properties and content; texts are never read as HTML.
export function make(name, more = {}, ...content) {
  const node = Object.assign(document.createElement(name), more);
  node.append(...content);
  return node;
}

// The same for SVG, with attributes.
export function shape(name, attributes = {}, ...content) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...content);
  return node;
}

const inside = (node, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(node.getScreenCTM().inverse());
export const clamp = (value, end) => Math.max(0, Math.min(end - 1, value));
export const range = (length, each = (i) => i) => Array.from({ length }, (_, i) => each(i));
export const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Calls `at` with where the pointer is on `node`, and `by` with the rows and columns an arrow key moves.
export function follow(svg, node, at, by) {
  const title = svg.querySelector("title"); // its tooltip would cover what is pointed at
  svg.setAttribute("aria-label", title.textContent);
  title.remove();
  svg.tabIndex = 0;
  for (const kind of ["pointermove", "pointerdown"]) node.addEventListener(kind, (event) => at(inside(node, event)));
  svg.addEventListener("keydown", (event) => {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    by(...ARROWS[event.key]);
  });
}

// Makes a chart's curves readable by pointer and key.
function curves(svg) {
  const stops = JSON.parse(svg.dataset.hover), output = svg.parentElement.querySelector("output");
  const cross = shape("path", { class: "cross" }), dots = shape("g"), bottom = svg.viewBox.baseVal.height - 26;
  svg.append(cross, dots);
  let now;
  const show = (index, mark = true) => {
    now = clamp(index, stops.length);
    const [x, when, values] = stops[now];
    output.textContent = [when, ...values.map((value) => value[1])].join(" · ");
    cross.setAttribute("d", mark ? `M${x} 8V${bottom}` : "");
    dots.replaceChildren(...(mark ? values.map(([y, , look]) => shape("circle", { class: look, cx: x, cy: y, r: 4 })) : []));
  };
  const far = (x, i) => Math.abs(stops[i][0] - x);
  const nearest = (x) => range(stops.length).reduce((best, i) => (far(x, i) < far(x, best) ? i : best));
  follow(svg, svg, (point) => show(nearest(point.x)), (_, by) => show(now + by));
  svg.addEventListener("pointerleave", () => show(stops.length - 1, false));
  show(stops.length - 1, false);
}

// A small picture of numbers, row by row of `wide` each: a pixel for each, stronger for a larger share of `top`; those
// below zero have another colour.
export function thumbnail(numbers, wide, top) {
  const canvas = make("canvas", { width: wide, height: numbers.length / wide }), brush = canvas.getContext("2d", { willReadFrequently: true });
  const [above, below] = ["--heat", "--orange"].map((name) => {
    brush.fillStyle = getComputedStyle(document.body).getPropertyValue(name);
    brush.fillRect(0, 0, 1, 1);
    return brush.getImageData(0, 0, 1, 1).data;
  });
  const image = brush.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < numbers.length; i += 1) {
    const colour = numbers[i] < 0 ? below : above;
    for (let k = 0; k < 3; k += 1) image.data[4 * i + k] = colour[k];
    image.data[4 * i + 3] = 255 * Math.abs(numbers[i]) / top;
  }
  brush.putImageData(image, 0, 0);
  return canvas;
}

// Makes a heat map's cells readable by pointer and key: `read(row, column)` is called with the one that is pointed at.
// Returns what draws weights, and what marks a row and a column.
export function heatMap(svg, read) {
  const texts = ["row", "column"].map((side) => [...svg.querySelectorAll(`text.${side}`)]), wide = texts[1].length;
  const cells = svg.querySelector(".cells");
  let at = [0, 0];
  const mark = (...to) => texts.forEach((side, k) => side.forEach((text, i) => text.classList.toggle("on", i === to[k])));
  const show = (...to) => {
    at = texts.map((side, k) => clamp(to[k], side.length));
    mark(...at);
    read(...at);
  };
  follow(svg, cells, (p) => show(Math.floor(p.y / 20), Math.floor(p.x / 20)), (down, right) => show(at[0] + down, at[1] + right));
  const place = (i) => [20 * (i % wide), 20 * Math.floor(i / wide)];
  const cell = (w, i) => {
    const [x, y] = place(i);
    return shape("rect", { x, y, width: 19, height: 19, "fill-opacity": w.toFixed(3) });
  };
  // Of many cells, those of one shade are one shape, which is drawn much faster.
  function shades(shares) {
    const paths = new Map();
    shares.forEach((share, i) => {
      const shade = Math.round(100 * share);
      if (shade) paths.set(shade, `${paths.get(shade) ?? ""}M${place(i).join(" ")}h19v19h-19z`);
    });
    return Array.from(paths, ([shade, d]) => shape("path", { d, "fill-opacity": shade / 100 }));
  }
  const paint = (weights, most) => {
    const shares = Array.from(weights, (w) => w / (most || 1));
    cells.replaceChildren(...(shares.length > 2500 ? shades(shares) : shares.map(cell)));
  };
  return { paint, mark, tokens: texts.map((side) => side.map((text) => text.dataset.token)) };
}

// Makes a report's attention maps of one text interactive.
function attention(article) {
  const box = article.querySelector(".maps"), figures = [...box.querySelectorAll("figure")];
  const maps = JSON.parse(article.querySelector("script").textContent).map((map, i) => ({
    ...map,
    figure: figures[i],
    bytes: Uint8Array.from(atob(map.weights), (letter) => letter.charCodeAt(0)),
  }));
  for (const each of maps) {
    each.heat = heatMap(each.figure.querySelector("svg"), (row, column) => {
      const [rows, columns] = each.heat.tokens, weight = now[row * columns.length + column];
      each.figure.querySelector("output").textContent = `${rows[row]} → ${columns[column]}: ${weight.toFixed(2)}`;
    });
  }
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
    const [rows, columns] = map.heat.tokens, size = rows.length * columns.length, first = layer.value * map.heads;
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
    const most = Math.max(...now), wide = map.heat.tokens[1].length;
    const what = +head.value < map.heads ? `head ${+head.value + 1}` : "mean over heads";
    map.figure.querySelector("figcaption span").textContent = `layer ${+layer.value + 1}, ${what}, strongest ${most.toFixed(2)}`;
    map.heat.paint(now, most);
    const all = range(map.heads, weights), top = Math.max(...all.flat()) || 1;
    heads.replaceChildren(...all.map((w, h) => small(w, h, wide, top)));
  }

  function small(w, h, wide, top) {
    const pressed = String(+head.value === h), picture = thumbnail(w, wide, top);
    const button = make("button", { type: "button", ariaPressed: pressed }, `head ${h + 1}`, picture);
    button.addEventListener("click", () => {
      head.value = +head.value === h ? map.heads : h;
      draw();
      heads.children[h].focus();
    });
    return button;
  }

  fill(which, figures.map((figure) => figure.querySelector("b").textContent), figures.findIndex((figure) => !figure.hidden));
  box.before(controls);
  box.append(heads);
  draw(true);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
}

// Makes all charts and heat maps below a node interactive.
export function enliven(node) {
  node.querySelectorAll("svg[data-hover]").forEach(curves);
  node.querySelectorAll("article:has(.maps)").forEach(attention);
}

// The nodes of markup that the server made of charts; no script in it would run.
export function placed(markup) {
  const nodes = [...new DOMParser().parseFromString(markup, "text/html").body.childNodes];
  const node = make("div", { className: "charts" }, ...nodes);
  for (const table of node.querySelectorAll(".scroll:not(:has(svg))")) table.tabIndex = 0;
  enliven(node);
  return node;
}
