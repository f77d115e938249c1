// Layer by layer: from a token to a prediction, with the numbers that this model computes for this input.
import { asking, choice, field, scrollable, switches } from "./asking.js";
import { bar, direction, percent, ranked, readable, roving } from "./chips.js";
import { make, placed, range, shape, thumbnail } from "./draw.js";

const gateNames = {
  i: "input gate i", f: "forget gate f", o: "output gate o", g: "candidate g", c: "cell c", r: "reset gate r", z: "update gate z", n: "candidate n", h: "state h",
};
export const shortNumber = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : x.toFixed(2)).replace("-", "−");

function showLayers(node, context) {
  const { run } = context, asks = make("div"), result = make("div", { className: "view" });
  node.append(asks, result);
  const extra = run.does === "translate" ? { target: field("Translation to look at (empty: the model's own)", {}) } : {};
  return asking(asks, context, "Look", (question, signal) => layersOf(result, { ...context, question, signal }), extra);
}

// Numbers as a row of cells: blue above zero, orange below; what is pointed at is read below it.
function layerStrip(name, values, plain = false) {
  const top = Math.max(...values.map(Math.abs), 1e-9), canvas = thumbnail(values, values.length, top), output = make("output");
  const some = values.slice(0, 4).map(shortNumber).join(", "), label = `${name}: ${values.length} numbers: ${some}${values.length > 4 ? ", …" : ""}`;
  canvas.className = "strip";
  canvas.role = "img";
  canvas.ariaLabel = label;
  if (plain) return canvas;
  let at = 0;
  const show = (i) => {
    at = Math.max(0, Math.min(values.length - 1, i));
    output.textContent = `number ${at + 1} of ${values.length}: ${values[at]}`;
  };
  canvas.tabIndex = 0;
  canvas.addEventListener("pointermove", (event) => show(Math.floor(event.offsetX / canvas.clientWidth * values.length)));
  canvas.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: values.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
  output.textContent = `${values.length} numbers: ${some}${values.length > 4 ? ", …" : ""}`;
  return make("div", { className: "strips" }, make("span", { className: "note", textContent: name }), canvas, output);
}

async function layersOf(result, context) {
  const { api, question, signal, guarded } = context, found = await api.get("inside", question, signal), sides = Object.keys(found.sides).filter((side) => side !== "memory");
  const chips = make("div", { className: "chips", role: "group", ariaLabel: "Tokens" }), stages = make("ol", { className: "walk" }), whole = make("div", { className: "view" });
  const now = { side: sides.at(-1), position: 0, layer: "", head: 0 };
  let walks = 0;
  async function walk() {
    const number = walks += 1;
    stages.ariaBusy = "true";
    await guarded(() => layersAt(stages, now, context));
    if (number === walks) stages.ariaBusy = "false";
  }
  function tokens() {
    const { names } = found.sides[now.side];
    now.position = Math.min(now.position, names.length - 1);
    const buttons = names.map((name, i) => {
      const button = make("button", { type: "button", className: "chip", ariaPressed: String(i === now.position) }, make("bdi", { textContent: readable(name) }));
      button.addEventListener("click", () => {
        for (const each of buttons) each.ariaPressed = String(each === button);
        now.position = i;
        walk();
      });
      return button;
    });
    chips.dir = direction(names.join(" "));
    chips.replaceChildren(...buttons);
    roving(buttons, now.position);
  }
  now.position = Math.min(1, found.sides[now.side].names.length - 1);
  const side = switches("Which half of the model", sides, sides.length - 1, (i) => {
    Object.assign(now, { side: sides[i], layer: "", head: 0 });
    tokens();
    walk();
  });
  tokens();
  const written = found.written && make("p", { className: "written", dir: "auto", textContent: `→ ${found.written}` });
  const picture = found.picture && make("img", { src: found.picture, alt: "The picture as the model reads it", className: "read" });
  result.replaceChildren(...[written, picture, found.chart && placed(found.chart), ...(sides.length > 1 ? [side] : []), make("p", { className: "note", textContent: "Choose a token, and follow it through the model." }), chips, stages, whole].filter(Boolean));
  await walk();
  await guarded(async () => whole.append(await layersLens(context)));
}

const layerStage = (title, ...parts) => make("li", {}, make("h3", { textContent: title }), ...parts.filter(Boolean).map((part) => (typeof part === "string" ? make("p", { className: "note", textContent: part }) : part)));

async function layersAt(stages, now, context) {
  const { api, question, signal } = context, { side, position } = now;
  const at = await api.get("walk", { ...question, side, position }, signal), inner = make("div"), layers = [...at.attention.map((each) => each.layer), ...at.recurrent];
  const before = (each) => at.attention.filter(({ title }) => title === each.title).indexOf(each) + 1;
  const titles = [...at.attention.map((each) => `${each.title}, layer ${before(each)}`), ...at.recurrent.map((name) => `recurrent, ${name}`)];
  if (!layers.includes(now.layer)) Object.assign(now, { layer: layers.at(-1) ?? "", head: 0 });
  const parts = [layerToken(at), layerVector(at)];
  const draw = () => context.guarded(() => layerInner(inner, at, now, context));
  if (layers.length) {
    const picked = choice("Layer", titles, layers.indexOf(now.layer), (i) => {
      Object.assign(now, { layer: layers[i], head: 0 });
      draw();
    });
    parts.push(layerStage("Inside a layer", make("div", { className: "row" }, picked), inner));
    await draw();
  } else parts.push(layerStage("Inside a layer", "No layer of this half attends or is recurrent; what follows each layer is below."));
  if (at.streams.length) parts.push(layerStage("After each layer", "The vector at this position, before the first layer and after each; its length is the root of the sum of squares.",
    ...at.streams.map((one, i) => layerStrip(`${i ? `after layer ${i}` : "before the first layer"}, length ${shortNumber(one.norm)}`, one.values))));
  parts.push(at.output ? await layerOutput(at, now, context) : layerStage("Output", "This half predicts nothing by itself: the other one attends to it."));
  if (!signal.aborted && now.side === side && now.position === position) stages.replaceChildren(...parts);
}

function layerToken(at) {
  if (at.id === null) return layerStage("Input", `Position “${at.token}”: it is a part of a picture or a signal, not a token.`);
  const { id, size } = at, mark = shape("svg", { class: "onehot", viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img", "aria-label": `A one at ${id + 1}, zeros elsewhere` },
    shape("rect", { width: 1000, height: 10, class: "zeros" }), shape("rect", { x: Math.min(995, 1000 * id / size), width: 5, height: 10, class: "one" }));
  return layerStage("Token, id, one-hot vector", `“${readable(at.token)}” has the id ${id}. As a one-hot vector it is ${size.toLocaleString()} zeros, with a one at number ${id + 1}:`, size ? mark : null);
}

function layerVector(at) {
  if (!at.vector) return layerStage("Embedding", "It is not embedded one by one here.");
  const position = at.place ? layerStrip("plus its position", at.place)
    : at.positions && `Nothing is added for the position: it is “${at.positions}”, inside attention or nowhere.`;
  const sum = at.place && layerStrip("their sum", at.vector.map((x, i) => +(x + at.place[i]).toFixed(4)));
  return layerStage("Embedding and position", at.id === null ? "" : "The one-hot vector picks its row of the embedding table:", layerStrip("embedding", at.vector), position, sum);
}

function layerInner(inner, at, now, context) {
  return at.recurrent.includes(now.layer) ? layerCell(inner, now, context) : layerHead(inner, at, now, context);
}

async function layerHead(inner, at, now, context) {
  const { api, question, signal, guarded } = context, about = at.attention.find((each) => each.layer === now.layer);
  const found = await api.get("head", { ...question, layer: now.layer, head: now.head }, signal);
  const i = now.position, weights = found.weights[i], scores = found.scores?.[i];
  const heads = choice("Head", range(about.heads, (h) => `${h + 1}`), now.head, (h) => {
    now.head = h;
    guarded(() => layerHead(inner, at, now, context));
  });
  const visible = range(about.keys.length).filter((j) => !scores || scores[j] !== null), hidden = about.keys.length - visible.length;
  const rows = visible.map((j) => [about.keys[j], j]).map(([key, j]) => make("tr", {}, make("th", { scope: "row" }, make("bdi", { textContent: readable(key) })),
    make("td", {}, layerStrip(`key of ${readable(key)}`, found.keys[j], true)),
    ...(scores ? [make("td", { textContent: shortNumber(scores[j]) })] : []),
    make("td", {}, `${weights[j].toFixed(3)}`, bar(weights[j])),
    make("td", {}, layerStrip(`value of ${readable(key)}`, found.values[j], true))));
  const columns = ["token", "key k", ...(scores ? ["q·k / √C"] : []), "softmax", "value v"];
  const table = make("table", { className: "qkv" }, make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col", textContent: name })))), make("tbody", {}, ...rows));
  const off = make("button", { type: "button", textContent: "Switch this head off" }), changed = make("div", { ariaLive: "polite" });
  off.addEventListener("click", () => guarded(async () => {
    changed.textContent = "Computing …";
    const what = await api.get("off", { ...question, layer: now.layer, head: now.head }, signal).catch((error) => {
      changed.textContent = "";
      throw error;
    });
    changed.replaceChildren(...layersChanged(what));
  }));
  inner.replaceChildren(make("div", { className: "row" }, heads), layerStrip("query q of the chosen token", found.queries[i]), scrollable("Keys, weights and values", table),
    ...(hidden ? [make("p", { className: "note", textContent: `The ${hidden} later tokens are not visible from here.` })] : []), layerStrip("output: the values, each times its weight, added", found.outputs[i]), off, changed);
}

// What a head that is switched off changes.
function layersChanged(what) {
  const texts = what.texts[0] ? [make("p", { className: "note", textContent: what.texts[0] === what.texts[1] ? "The model still writes the same:" : "Without this head the model writes:" }), make("p", { className: "written", dir: "auto", textContent: what.texts[1] })] : [];
  const one = ([name, p]) => `${readable(name)} ${percent(p)}`;
  const rows = what.positions.map((each) => make("tr", {}, make("th", { scope: "row" }, make("bdi", { textContent: readable(each.asked) })),
    ...[one(each.before[0]), one(each.after[0]), `${percent(each.p[0])} → ${percent(each.p[1])}`, each.divergence.toFixed(3)].map((textContent) => make("td", { textContent }))));
  const head = make("tr", {}, ...["output", "likeliest before", "after", "its probability", "KL divergence (nats)"].map((textContent) => make("th", { scope: "col", textContent })));
  return [...texts, scrollable("What changes", make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)))];
}

async function layerCell(inner, now, context) {
  const found = await context.api.get("cell", { ...context.question, layer: now.layer }, context.signal), t = now.position, { traces, units } = found;
  const steps = traces.h.length, before = found.backward ? t + 1 : t - 1, sum = make("p", { className: "formula" });
  const value = (name, unit, at = t) => (at >= 0 && at < steps ? traces[name][at][unit] : 0);
  function formula(unit) {
    const v = (name, at) => shortNumber(value(name, unit, at));
    sum.textContent = {
      LSTM: () => `c = f · c₋₁ + i · g = ${v("f")} · ${v("c", before)} + ${v("i")} · ${v("g")} = ${v("c")};  h = o · tanh(c) = ${v("o")} · tanh(${v("c")}) = ${v("h")}`,
      GRU: () => `h = (1 − z) · n + z · h₋₁ = (1 − ${v("z")}) · ${v("n")} + ${v("z")} · ${v("h", before)} = ${v("h")}`,
      RNN: () => `h = tanh(W x + U h₋₁ + b) = ${v("h")}`,
    }[found.kind]();
  }
  const unit = choice("Unit", units.map((u) => `${u + 1}`), 0, (i) => formula(units[i]));
  formula(units[0]);
  const now_ = Object.keys(traces).map((name) => layerStrip(gateNames[name], traces[name][t]));
  const times = Object.keys(traces).map((name) => {
    const rows = units.flatMap((u) => range(steps, (s) => traces[name][s][u])), canvas = thumbnail(rows, steps, Math.max(...rows.map(Math.abs), 1e-9));
    canvas.role = "img";
    canvas.ariaLabel = `${gateNames[name]}: ${units.length} units (rows) at ${steps} positions (columns)`;
    return make("figure", {}, make("figcaption", { textContent: gateNames[name] }), canvas);
  });
  inner.replaceChildren(make("p", { className: "note", textContent: `${found.kind}${found.backward ? ", which reads backwards" : ""}: gates between 0 and 1 decide what is kept of the state.` }), ...now_,
    make("div", { className: "row" }, unit), sum, make("p", { className: "note", textContent: `The ${units.length} units that change most (rows) over all positions (columns):` }), make("div", { className: "gates" }, ...times));
}

// What is predicted, and what of the input counted for it.
async function layerOutput(at, now, context) {
  const { api, question, signal, guarded } = context, { output } = at, counted = make("div", { ariaLive: "polite" }), position = output.whole ? 0 : now.position;
  const button = make("button", { type: "button", textContent: "What counted for this?" });
  const show = async () => counted.replaceChildren(...layerCounted(await api.get("counted", { ...question, position }, signal), context.named, output.asked));
  button.addEventListener("click", () => guarded(show));
  const title = output.whole ? "Output: softmax over the labels" : "Output: softmax over the vocabulary";
  const asked = `What is asked about: “${readable(output.asked)}”, with probability ${output.p.toFixed(4)}.`;
  context.named ??= (await api.get("inside", question, signal)).sides;
  return layerStage(title, ranked(output.best.map(([name, p]) => [readable(name), p])), asked, button, counted);
}

export function layerCounted(found, sides, asked, instead) {
  const all = Object.values(found.sides).flat(), top = Math.max(...all.map(Math.abs), 1e-9);
  const rows = Object.entries(found.sides).map(([side, values]) => make("div", { className: "chips counted", dir: direction((sides[side]?.names ?? []).join(" ")) }, ...values.map((value, i) => {
    const chip = make("span", { className: value < 0 ? "chip below" : "chip above" }, make("bdi", { textContent: readable(sides[side]?.names[i] ?? `${i}`) }), make("small", { textContent: `${value > 0 ? "+" : ""}${shortNumber(value)}` }));
    chip.style.setProperty("--share", `${(35 * Math.abs(value) / top).toFixed(0)}%`);
    return chip;
  })));
  const what = instead ? `its lead over “${readable(instead)}”` : "its log-probability";
  return [make("p", { className: "note", textContent: `Integrated gradients for “${readable(asked)}”: what each position adds to ${what} (blue, +) or takes (orange, −), ${found.change.toFixed(2)} in all.` }), ...rows];
}

// The logit lens: what would be predicted after each layer.
async function layersLens({ api, question, signal }) {
  const found = await api.get("lens", question, signal), part = make("section", {}, make("h3", { textContent: "Logit lens: what the model would predict if it ended after an earlier layer" }));
  if (!found.layers.length) {
    part.append(make("p", { className: "note", textContent: `Not for this model: ${found.reason}.` }));
    return part;
  }
  const rows = found.layers.toReversed().map((layer) => make("tr", {}, make("th", { scope: "row", textContent: layer.name }), ...layer.outputs.map(({ best }) => {
    const cell = make("td", { title: best.map(([name, p]) => `${readable(name)} ${percent(p)}`).join(", ") }, make("bdi", { textContent: readable(best[0][0]) }), make("small", { textContent: percent(best[0][1]) }));
    cell.style.setProperty("--share", `${(35 * best[0][1]).toFixed(0)}%`);
    return cell;
  })));
  const head = make("tr", {}, make("th", { scope: "col", textContent: "asked" }), ...found.layers[0].outputs.map(({ asked }) => make("th", { scope: "col" }, make("bdi", { textContent: readable(asked) }))));
  part.append(scrollable("Logit lens", make("table", { className: "lens" }, make("thead", {}, head), make("tbody", {}, ...rows))));
  return part;
}

export const layersView = { name: "layers", title: "Layers", fits: (run) => run.looks, show: showLayers };
