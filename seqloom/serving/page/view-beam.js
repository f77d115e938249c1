// The beam: what each step of a search considered, what it dropped, and why the best result won.
import { asking, field, scrollable } from "./asking.js";
import { percent, readable, roving } from "./chips.js";
import { make, range, shape } from "./draw.js";

const beamWide = 104, beamTall = 40; // pixels of a place of the tree

function showBeam(node, context) {
  const number = (label, value, more) => field(label, { type: "number", value, ...more });
  const beams = { min: 1, max: 16 }, penalties = { min: -10, max: 10, step: 0.1 };
  const extra = {
    beam: number("Beam", 4, beams), length_penalty: number("Length penalty", 1, penalties),
    beside_beam: number("Beside it: beam", "", beams), beside_penalty: number("Beside it: length penalty", "", penalties),
  };
  const asks = make("div"), result = make("div", { className: "view" });
  node.append(asks, result);
  return asking(asks, context, "Search", async (question, signal) => {
    const { beside_beam: beam, beside_penalty: penalty, ...first } = question, asked = [{ beam: 4, length_penalty: 1, ...first }];
    if (beam !== undefined || penalty !== undefined) asked.push({ ...asked[0], beam: beam ?? asked[0].beam, length_penalty: penalty ?? asked[0].length_penalty });
    const trees = [];
    for (const each of asked) trees.push(await context.api.get("beam", each, signal));
    result.replaceChildren(...trees.map((tree, i) => beamPart(tree, trees[1 - i])));
  }, extra);
}

function beamPart(tree, other) {
  const title = `Beam of ${tree.beam}, length penalty ${tree.length_penalty}`, [best, second] = tree.results;
  const part = make("section", { className: "beam" }, make("h3", { textContent: title }));
  part.append(make("p", { className: "written", dir: "auto", textContent: readable(best.text) }));
  if (other) part.append(make("p", { className: "note", textContent: best.text === other.results[0].text ? "The same text as with the other setting." : "Another text than with the other setting." }));
  const how = ({ log_p, length, score }) => `${score.toFixed(3)} = ${log_p.toFixed(3)} / ${length}^${tree.length_penalty}`;
  const rival = second ? ` The next best has ${how(second)}.` : " It is the only one that ended.";
  part.append(make("p", { className: "note", textContent: `It won with the highest score, log-probability / length^penalty: ${how(best)}.${rival}` }));
  part.append(beamTree(tree), beamResults(tree));
  return part;
}

// The results, best first.
function beamResults({ results, winner }) {
  const rows = results.map((one) => make("tr", {}, make("th", { scope: "row", dir: "auto", textContent: readable(one.text) }),
    ...[one.score.toFixed(3), one.log_p.toFixed(3), one.length, one.node === winner.at(-1) ? "yes" : "no"].map((textContent) => make("td", { textContent }))));
  const head = make("tr", {}, ...["Result", "score", "log p", "tokens", "won"].map((textContent) => make("th", { scope: "col", textContent })));
  return scrollable("Results", make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

// What became of a hypothesis, in words.
function beamSaid(one, tree) {
  const p = `p ${Math.exp(one.log_q).toFixed(3)}, log p of all ${one.log_p.toFixed(2)}`;
  const name = one.end ? "the end" : `“${readable(one.token)}”`;
  const now = { live: `goes on as number ${one.place + 1} of ${tree.beam}`, ended: `a result, with score ${one.score?.toFixed(3)}${one.at_limit ? ", at the most tokens there may be" : ""}`, pruned: `pruned: ${one.reason}` };
  return `Step ${one.step + 1}, ${name}: ${p}; ${now[one.status]}.`;
}

// A column for each step: those that go on by rank, below them what ended or was pruned.
function beamTree(tree) {
  const won = new Set(tree.winner), output = make("output"), columns = range(tree.steps, (step) => tree.nodes.filter((one) => one.step === step));
  const places = new Map(), nodes = new Map();
  columns.forEach((column, x) => {
    const live = column.filter((one) => one.status === "live").sort((a, b) => a.place - b.place), rest = column.filter((one) => one.status !== "live");
    live.forEach((one) => places.set(one.id, [x, one.place]));
    rest.sort((a, b) => (a.status === "pruned") - (b.status === "pruned") || a.rank - b.rank);
    rest.forEach((one, i) => places.set(one.id, [x, tree.beam + i]));
  });
  const tall = Math.max(...[...places.values()].map((place) => place[1])) + 1;
  const lines = shape("svg", { class: "lines", "aria-hidden": "true", width: beamWide * tree.steps, height: beamTall * tall });
  const box = make("div", { className: "tree", role: "group", ariaLabel: "The search, step by step; arrow keys go from token to token" }, lines);
  box.style.width = `${beamWide * tree.steps}px`;
  box.style.height = `${beamTall * tall}px`;
  for (const one of tree.nodes) {
    const [x, y] = places.get(one.id), classes = [one.status, won.has(one.id) ? "won" : ""].filter(Boolean);
    if (one.parent !== null) {
      const [px, py] = places.get(one.parent), from = px * beamWide + beamWide - 14, to = x * beamWide + 2, [a, b] = [py, y].map((row) => row * beamTall + 17);
      lines.append(shape("path", { d: `M${from} ${a}C${from + 12} ${a} ${to - 12} ${b} ${to} ${b}`, class: classes.join(" ") }));
    }
    const button = make("button", { type: "button", className: classes.join(" "), title: beamSaid(one, tree) });
    button.append(make("bdi", { textContent: one.end ? "end" : readable(one.token) }), make("small", { textContent: one.status === "ended" ? one.score.toFixed(2) : percent(Math.exp(one.log_q)) }));
    if (won.has(one.id)) button.title = `Won. ${button.title}`;
    button.style.left = `${x * beamWide}px`;
    button.style.top = `${y * beamTall}px`;
    for (const name of ["focus", "pointerenter"]) button.addEventListener(name, () => { output.textContent = beamSaid(one, tree); });
    nodes.set(one.id, button);
  }
  box.append(...nodes.values());
  beamKeys(tree, columns, places, nodes);
  const hide = make("input", { type: "checkbox", checked: true });
  hide.addEventListener("change", () => box.classList.toggle("bare", !hide.checked));
  output.textContent = "Choose a token to see what became of it.";
  return make("figure", {}, make("label", { className: "check" }, hide, " what was pruned"), output, scrollable("Tree", box));
}

// One stop for Tab; left and right go along the search, up and down within a step.
function beamKeys(tree, columns, places, nodes) {
  roving([...nodes.values()], tree.winner[0]);
  for (const one of tree.nodes) {
    nodes.get(one.id).onkeydown = (event) => {
      const seen = (each) => nodes.get(each.id).checkVisibility();
      const column = columns[one.step].filter(seen).sort((a, b) => places.get(a.id)[1] - places.get(b.id)[1]), i = column.indexOf(one);
      const next = (columns[one.step + 1] ?? []).filter(seen), child = next.find((each) => each.parent === one.id && tree.winner.includes(each.id)) ?? next.find((each) => each.parent === one.id);
      const to = { ArrowUp: column[i - 1], ArrowDown: column[i + 1], ArrowLeft: tree.nodes[one.parent ?? -1], ArrowRight: child ?? next[0] };
      if (!(event.key in to)) return;
      event.preventDefault();
      if (!to[event.key]) return;
      nodes.get(one.id).tabIndex = -1;
      const node = nodes.get(to[event.key].id);
      node.tabIndex = 0;
      node.focus();
    };
  }
}

export const beamView = { name: "beam", title: "Beam", fits: (run) => ["translate", "caption", "continue"].includes(run.does), show: showBeam };
