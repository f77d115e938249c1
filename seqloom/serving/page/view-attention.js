// Attention: all heads small, one large as a matrix and as arcs, or over the picture that was read.
import { asking, choice, drawingText, field, keep, scrollable, switches } from "./asking.js";
import { readable, roving } from "./chips.js";
import { heatMap, make, placed, range, shape, thumbnail } from "./draw.js";

const attentionNote = "Attention shows where the model looked, not why.", arcLine = 20;

function showAttention(node, context) {
  const { run } = context, result = make("div", { className: "view" }), asks = make("div");
  node.append(asks, make("p", { className: "note", textContent: attentionNote }), result);
  const extra = run.does === "translate" ? { target: field("Translation to look at (empty: the model's own)", {}) } : {};
  return asking(asks, context, "Look", (question, signal) => attentionOf(result, { ...context, question, signal }), extra);
}

async function attentionOf(result, context) {
  const { api, question, signal, guarded } = context, found = await api.get("inside", question, signal);
  if (!found.attention.length) {
    result.replaceChildren(make("p", { textContent: found.reason }));
    return;
  }
  const body = make("div", { className: "view" }), written = found.written && make("p", { className: "written", dir: "auto", textContent: `→ ${found.written}` });
  const show = (i) => guarded(() => attentionKind(body, found, found.attention[i], context));
  const kinds = switches("What attends", found.attention.map((each) => each.title), 0, show);
  result.replaceChildren(...[written, found.chart && placed(found.chart), kinds, body].filter(Boolean));
  await attentionKind(body, found, found.attention[0], context);
}

// The weights of all layers of a kind, (layer, head) by number; the head after the last is the mean, the layer after the
// last goes through all of them.
async function attentionWeights(kind, { api, question, signal }) {
  const self = kind.title.endsWith("self-attention"), layers = [...kind.layers, ...(self ? ["rollout"] : [])];
  const size = kind.rows.length * kind.columns.length;
  const parts = await Promise.all(layers.map((layer) => api.numbers("weights", { ...question, kind: kind.title, layer }, signal)));
  const means = parts.map((part) => {
    const mean = new Float32Array(size), heads = part.length / size;
    for (let i = 0; i < part.length; i += 1) mean[i % size] += part[i] / heads;
    return mean;
  });
  return (layer, head) => (head < kind.heads && layer < kind.layers.length ? parts[layer].subarray(head * size, (head + 1) * size) : means[layer]);
}

// The mean entropy of the rows, in bits.
function attentionEntropy(weights, wide) {
  let sum = 0;
  for (const w of weights) if (w > 0) sum -= w * Math.log2(w);
  return sum * wide / weights.length;
}

async function attentionKind(body, found, kind, context) {
  const of = await attentionWeights(kind, context), wide = kind.columns.length, layers = kind.layers.length;
  const self = kind.title.endsWith("self-attention");
  let at = [layers - 1, kind.heads], byEntropy = false;
  const names = ([layer, head]) => (layer === layers ? "through all layers" : `layer ${layer + 1}, ${head < kind.heads ? `head ${head + 1}` : "mean of heads"}`);
  const small = make("div", { className: "headmap" }), large = make("div", { className: "view" });
  const pairs = [...range(layers).flatMap((layer) => range(kind.heads + 1, (head) => [layer, head])), ...(self ? [[layers, kind.heads]] : [])];
  const entropies = new Map(pairs.map((pair) => [pair, attentionEntropy(of(...pair), wide)]));

  function drawSmall(focus) {
    const order = byEntropy ? pairs.toSorted((a, b) => entropies.get(a) - entropies.get(b)) : pairs;
    small.style.gridTemplateColumns = byEntropy ? "" : `repeat(${kind.heads + 1}, minmax(3.25rem, 6.5rem))`;
    const buttons = order.map((pair) => {
      const weights = of(...pair), chosen = String(pair) === String(at);
      const [layer, head] = pair, label = layer === layers ? "all" : head < kind.heads ? `${layer + 1}.${head + 1}` : `${layer + 1} mean`;
      const button = make("button", { type: "button", ariaPressed: String(chosen), title: `${names(pair)}: ${entropies.get(pair).toFixed(2)} bits` });
      button.append(make("span", { textContent: byEntropy ? `${label} · ${entropies.get(pair).toFixed(1)}` : label }), thumbnail(weights, wide, Math.max(...weights.subarray(0, 65536), 1e-6)));
      button.addEventListener("click", () => {
        at = pair;
        for (const each of buttons) each.ariaPressed = String(each === button);
        drawLarge();
      });
      return button;
    });
    small.replaceChildren(...buttons);
    roving(buttons, Math.max(0, order.findIndex((pair) => String(pair) === String(at))));
    if (focus) small.querySelector('[tabindex="0"]').focus();
  }

  const one = attentionOne(found, kind);
  function drawLarge() {
    one.draw(of(...at), names(at));
  }
  const order = choice("Order", ["layers and heads", "entropy, the most focused first"], 0, (i) => {
    byEntropy = i === 1;
    drawSmall();
  });
  const files = ["SVG", "JSON"].map((name) => {
    const button = make("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      const file = `${kind.title}, ${names(at)}`.replaceAll(/[^\w.-]+/g, "-");
      if (name === "SVG") keep(`${file}.svg`, "image/svg+xml", drawingText(one.svg));
      else {
        const weights = of(...at), rows = range(kind.rows.length, (i) => Array.from(weights.subarray(i * wide, (i + 1) * wide), (w) => +w.toFixed(5)));
        const { rows: attend, columns: attended } = kind;
        keep(`${file}.json`, "application/json", JSON.stringify({ kind: kind.title, which: names(at), rows: attend, columns: attended, weights: rows }));
      }
    });
    return button;
  });
  large.append(one.node, make("div", { className: "row" }, make("span", { className: "note", textContent: "Save as" }), ...files));
  body.replaceChildren(make("div", { className: "row" }, order), scrollable("All heads", small), large);
  drawSmall();
  drawLarge();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawSmall(), { signal: context.signal });
}

// One head, large: a matrix and arcs that mark the same tokens, and the picture where one was read.
function attentionOne(found, kind) {
  const caption = make("h3"), output = make("output"), matrix = placed(kind.frame), svg = matrix.querySelector("svg");
  const arcs = attentionArcs(kind, (row, column) => mark(row, column)), wide = kind.columns.length;
  const patches = found.picture ? found.sides.encoder?.names ?? [] : []; // they are numbers, with which only some kinds begin
  const over = patches.length && patches.every((name, i) => name === kind.columns[i]);
  const picture = over ? attentionPicture(found.picture, kind, patches.length, (row) => mark(row, null)) : null;
  let weights;
  const heat = heatMap(svg, (row, column) => mark(row, column));
  matrix.className = "scroll matrix";
  matrix.classList.toggle("many", wide > 40);

  // What a row and a column mean to each other; either may be missing, as null.
  function mark(row, column) {
    heat.mark(row, column);
    arcs.mark(row, column);
    picture?.draw(weights, row ?? 0);
    const row_ = row ?? 0, [from, to] = [kind.rows[row_], kind.columns[column ?? 0]].map(readable);
    if (row !== null && column !== null) output.textContent = `${from} → ${to}: ${weights[row * wide + column].toFixed(3)}`;
    else if (row !== null) output.textContent = `${from} looks at ${strongest(range(wide, (j) => weights[row * wide + j]), kind.columns)}`;
    else output.textContent = `${to} is looked at by ${strongest(range(kind.rows.length, (i) => weights[i * wide + column]), kind.rows)}`;
  }
  const strongest = (all, names) => all.map((w, i) => [w, names[i]]).sort((a, b) => b[0] - a[0]).slice(0, 3)
    .map(([w, name]) => `${readable(name)} (${w.toFixed(2)})`).join(", ");

  function draw(chosen, name) {
    weights = chosen;
    let most = 0;
    for (const w of weights) most = Math.max(most, w);
    caption.textContent = `${kind.title}, ${name}, strongest ${most.toFixed(2)}`;
    heat.paint(weights, most);
    arcs.draw(weights, most);
    picture?.draw(weights, 0);
    output.textContent = "Point at a token or a cell, or use the arrow keys.";
  }
  const parts = picture ? [picture.node, matrix] : [matrix, arcs.node]; // patches are numbers, which arcs only repeat
  return { node: make("figure", { className: "one" }, caption, output, make("div", { className: "pair" }, ...parts)), draw, svg };
}

// Tokens that attend on the left, those attended to on the right, and a line for each larger weight.
function attentionArcs(kind, read) {
  const { rows, columns } = kind, tall = Math.max(rows.length, columns.length) * arcLine + 8, left = 110, right = 210;
  const lines = shape("g", { class: "arcs" }), svg = shape("svg", { viewBox: `0 0 320 ${tall}`, class: "arcmap", role: "img", width: 320, height: tall });
  const place = (i) => i * arcLine + 18;
  const side = (tokens, x, anchor, name) => tokens.map((token, i) => {
    const text = shape("text", { x, y: place(i), "text-anchor": anchor, class: name });
    text.textContent = readable(token).slice(0, 14);
    return text;
  });
  const texts = [side(rows, left - 6, "end", "row"), side(columns, right + 6, "start", "column")];
  svg.append(lines, ...texts.flat());
  svg.setAttribute("aria-label", `${kind.title} as lines; arrow keys move through the tokens`);
  svg.tabIndex = 0;
  let weights, most, at = [0, null];
  texts.forEach((each, k) => each.forEach((text, i) => {
    for (const name of ["pointerenter", "click"]) text.addEventListener(name, () => go(k, i));
  }));
  function go(k, i) {
    at = k ? [null, i] : [i, null];
    read(...at);
  }
  svg.addEventListener("keydown", (event) => {
    const k = at[0] === null ? 1 : 0, i = at[k] ?? 0;
    const to = { ArrowUp: [k, i - 1], ArrowDown: [k, i + 1], ArrowLeft: [0, i], ArrowRight: [1, i] }[event.key];
    if (!to) return;
    event.preventDefault();
    go(to[0], Math.max(0, Math.min(texts[to[0]].length - 1, to[1])));
  });
  const line = (i, j, w) => shape("path", { d: `M${left} ${place(i) - 4}C${left + 50} ${place(i) - 4} ${right - 50} ${place(j) - 4} ${right} ${place(j) - 4}`, "stroke-opacity": Math.min(1, 0.08 + w / most).toFixed(2), "stroke-width": (0.5 + 3 * w / most).toFixed(1) });

  // All larger weights where nothing is marked, else those of the marked.
  function mark(row, column) {
    const wide = columns.length, found = [];
    const seen = (i, j) => (row === null || row === undefined || i === row) && (column === null || column === undefined || j === column || row != null);
    const least = row == null && column == null ? Math.max(0.12 * most, wide > 40 ? 0.3 * most : 0) : 0.02 * most;
    for (let i = 0; i < rows.length; i += 1) for (let j = 0; j < wide; j += 1) {
      const w = weights[i * wide + j];
      if (w > least && seen(i, j)) found.push(line(i, j, w));
    }
    lines.replaceChildren(...found);
    texts.forEach((each, k) => each.forEach((text, i) => text.classList.toggle("on", i === [row, column][k])));
  }
  const draw = (chosen, top) => {
    weights = chosen;
    most = top || 1;
    mark(null, null);
  };
  return { node: make("div", { className: "arcbox" }, svg), draw, mark };
}

// The picture under its weights: what a row looks at is clear, the rest is dark. A place that is pointed at on the
// picture beside it is the row, whose number `read` is called with. Tokens of a text stand behind the patches.
function attentionPicture(address, kind, patches, read) {
  const wide = kind.columns.length, side = Math.floor(Math.sqrt(patches)), first = patches - side * side;
  const dark = shape("g", { class: "dark" });
  const svg = shape("svg", { viewBox: `0 0 ${side} ${side}`, class: "over", role: "img", "aria-label": "The picture; what is looked at is clear" },
    shape("image", { href: address, width: side, height: side, preserveAspectRatio: "none", "image-rendering": "pixelated" }), dark);
  const plain = svg.cloneNode(true);
  plain.setAttribute("aria-label", "The picture as the model reads it");
  for (const name of ["pointermove", "pointerdown"]) plain.addEventListener(name, (event) => {
    const [x, y] = [event.offsetX / plain.clientWidth, event.offsetY / plain.clientHeight].map((share) => Math.max(0, Math.min(side - 1, Math.floor(share * side))));
    if (kind.title === "encoder self-attention") read(first + side * y + x);
  });
  function draw(weights, row) {
    const own = range(side * side, (i) => weights[row * wide + first + i]), most = Math.max(...own, 1e-9);
    dark.replaceChildren(...own.map((w, i) => shape("rect", { x: i % side, y: Math.floor(i / side), width: 1.01, height: 1.01, "fill-opacity": (0.85 * (1 - w / most)).toFixed(2) })));
  }
  return { node: make("div", { className: "overs" }, plain, svg), draw };
}

export const attentionView = { name: "attention", title: "Attention", fits: (run) => run.looks, show: showAttention };
