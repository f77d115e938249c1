// The box: a text in, what the model writes or predicts out.
import { chip, direction, ranked, readable, roving } from "./chips.js";
import { scrollable } from "./asking.js";
import { make, placed } from "./draw.js";
import { layerCounted } from "./view-layers.js";

const taskLabels = {
  translate: ["Text to translate", "Translate"], continue: ["Beginning of a text", "Continue"], chat: ["Message", "Send"],
  caption: ["Picture", "Describe"], fill: ["Text with a masked word", "Fill"], classify: ["Text", "Classify"],
  answer: ["Question", "Answer"], tag: ["Sentence", "Tag"], words: ["Word, or several", "Find neighbours"],
  forecast: ["Signal", "Forecast"], embed: ["Texts, each on a line of its own", "Compare"],
};
export const taskWrites = ["translate", "continue", "chat", "caption"];

const taskImageSide = 512; // pixels of the longer side of a picture that is sent
const taskMost = 40; // texts that are compared, and runs of equal labels that are listed

// A text area, a file for a picture, perhaps with a text area for what stands beside it, or both for a signal; `value()` is
// what is asked for: { text }, { image } in Base64, { image, text }, or { signal }. `text` is where one writes, if anywhere.
export function taskInput(run, session) {
  if (run.reads === "signal") return taskSignal(run, session);
  const [name] = taskLabels[run.does], image = run.reads === "image";
  const value = session.texts?.[run.name] ?? (run.mask && `Paris is the ${run.mask} of France.`);
  const text = image && !run.beside ? null : make("textarea", { rows: 3, dir: "auto", value });
  const written = text && make("label", { className: "field" }, name, text);
  if (!image) return { node: written, value: () => ({ text: text.value }), area: text, text };
  const file = make("input", { type: "file", accept: "image/*" }), picture = make("canvas", { className: "picture", hidden: true });
  const show = async (source) => {
    const bitmap = source instanceof Blob ? await createImageBitmap(source) : Object.assign(new Image(), { src: source });
    await bitmap.decode?.();
    const scale = Math.min(1, taskImageSide / Math.max(bitmap.width, bitmap.height));
    const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    Object.assign(picture, { width, height, hidden: false });
    picture.getContext("2d").drawImage(bitmap, 0, 0, width, height);
  };
  file.addEventListener("change", () => file.files.length && show(file.files[0]));
  const chosen = () => {
    if (picture.hidden) throw new Error("Choose a picture first.");
    return { image: picture.toDataURL("image/png").split(",")[1], ...(text ? { text: text.value } : {}) };
  };
  const node = make("label", { className: "field" }, "Picture", file, picture);
  return { node: text ? make("div", { className: "view" }, written, node) : node, value: chosen, area: file, text, show };
}

// A signal: numbers that are written, or a file; the one that was given last.
function taskSignal(run, session) {
  const area = make("textarea", { rows: 5, value: session.texts?.[run.name] ?? "", spellcheck: false });
  const file = make("input", { type: "file", accept: ".csv,.tsv,.npz,.jsonl,.ts" });
  const [series, steps] = [1e6, 1000].map((max) => make("input", { type: "number", min: 1, max }));
  let sent = null;
  const take = ([chosen]) => {
    const reader = new FileReader();
    sent = null;
    reader.onload = () => {
      if (file.files[0] !== chosen) return;
      sent = { format: chosen.name.split(".").at(-1).toLowerCase(), data: reader.result.split(",")[1] ?? "" };
      area.value = "";
    };
    if (chosen) reader.readAsDataURL(chosen);
  };
  file.addEventListener("change", () => take(file.files));
  area.addEventListener("input", () => {
    file.value = "";
    sent = null;
  });
  const value = () => {
    const more = steps.value ? { steps: +steps.value } : {};
    if (sent) return { signal: series.value ? { ...sent, series: +series.value } : sent, ...more };
    if (file.files.length) throw new Error("The file is still being read.");
    return { signal: signalNumbers(area.value), ...more };
  };
  const node = make("div", { className: "view" }, make("label", { className: "field" }, "Signal: a line of numbers for each time step", area),
    make("div", { className: "row" }, make("label", {}, "or a file (CSV, TSV, NPZ, JSON lines, .ts) ", file), make("label", { title: "of a file that has several" }, "Number of the series", series),
      ...(run.does === "forecast" ? [make("label", { title: "empty: as many as the run predicts" }, "Steps", steps)] : [])));
  node.addEventListener("dragover", (event) => event.preventDefault());
  node.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    file.files = event.dataTransfer.files;
    take(file.files);
  });
  return { node, value, area, text: area };
}

// Numbers (time steps, channels) of a text; what is missing is null.
function signalNumbers(text) {
  const number = (cell, line) => {
    if (/^(\?|nan|)$/i.test(cell)) return null;
    if (!Number.isFinite(+cell)) throw new Error(`Line ${line + 1}: “${cell}” is no number.`);
    return +cell;
  };
  if (!text.trim()) throw new Error("Choose a file, or write numbers first.");
  return text.trim().split("\n").map((each, line) => each.trim().split(/\s*[,;]\s*|\s+/).map((cell) => number(cell, line)));
}

// The same back as a text, of an input to begin with.
export const sampleText = ({ text, signal }) => (signal
  ? JSON.parse(signal).map((frame) => frame.map((x) => (x === null ? "?" : +x.toPrecision(6))).join(", ")).join("\n")
  : text);

// What a model that reads predicts of a text, a picture or a signal.
export async function predicted(api, run, { text, image, signal, steps }, second, ends) {
  const model = run.name, texts = [second ? [text, second] : text];
  const of = { model, ...(signal ? { signals: [signal] } : image ? { images: [image] } : { texts }) };
  if (run.does === "embed") return similarityParts(api, model, text, ends);
  if (run.does === "forecast") return [placed((await api.get("ahead", { model, signal, steps }, ends)).markup)];
  const [one] = Object.values(await {
    classify: () => api.get("v1/classify", of, ends),
    tag: () => api.get("v1/classify", of, ends),
    fill: () => api.get("v1/fill", { ...of, count: 8 }, ends),
    answer: () => api.get("v1/answer", { model, questions: text, passage: second }, ends),
    words: async () => ({ near: [(await api.get("near", { model, words: text.split(/\s+/).filter(Boolean) }, ends)).near] }),
  }[run.does]()).findLast(Array.isArray);
  return predictionParts(run.does, one);
}

// How alike texts are: the cosine of the vectors of each two.
async function similarityParts(api, model, text, ends) {
  const texts = text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (texts.length < 2 || texts.length > taskMost) throw new Error(`Write 2 to ${taskMost} texts, each on a line of its own.`);
  const vectors = (await api.get("v1/embeddings", { model, input: texts }, ends)).data.map(({ embedding }) => embedding);
  const rows = vectors.map((one, i) => make("tr", {}, make("th", { scope: "row" }, `${i + 1}. `, make("bdi", { textContent: texts[i] })), ...vectors.map((other) => {
    const cosine = one.reduce((sum, x, k) => sum + x * other[k], 0), cell = make("td", { textContent: cosine.toFixed(2) });
    cell.style.setProperty("--share", `${(35 * Math.max(0, cosine)).toFixed(0)}%`);
    return cell;
  })));
  const head = make("tr", {}, make("td"), ...texts.map((_, i) => make("th", { scope: "col", textContent: i + 1 })));
  return [make("h3", { textContent: "Cosine of the vectors of each two" }), scrollable("Similarities", make("table", { className: "lens similar" }, make("thead", {}, head), make("tbody", {}, ...rows)))];
}

function showTask(node, { api, run, session, signal, guarded }) {
  const writes = taskWrites.includes(run.does), input = taskInput(run, session);
  const second = run.does === "answer" || run.pairs ? make("textarea", { rows: 5, dir: "auto" }) : null;
  const go = make("button", { className: "main", textContent: taskLabels[run.does][1] });
  const stop = make("button", { type: "button", textContent: "Stop", hidden: true });
  const warm = make("input", { type: "number", min: 0, max: 2, step: 0.1, value: 0 });
  const controls = make("div", { className: "row" }, go, stop);
  if (writes) controls.append(make("label", { title: "0 = always the most probable token" }, "Temperature", warm));
  const form = make("form", {}, input.node, controls), result = make("div", { className: "view" });
  if (second) input.node.after(make("label", { className: "field" }, run.does === "answer" ? "Passage" : "Second text", second));
  const status = make("p", { className: "note", role: "status" }), seen = make("div");
  const turns = make("ol", { className: "turns", hidden: true }), said = [], chats = run.does === "chat";
  const anew = make("button", { type: "button", textContent: "New conversation", hidden: true });
  node.append(turns, form, status, result, seen);
  let now, message, seed = 1;
  if (chats) controls.append(anew);

  // A conversation goes on with what was written last, forced or not; what is sent is no longer in the box.
  function speak() {
    if (message) said.push(message, writing.written());
    message = input.area.value;
    input.area.value = "";
    hear();
  }

  function hear() {
    turns.hidden = !message;
    anew.hidden = !message;
    turns.replaceChildren(...[...said, message].filter((text) => text !== undefined).map((text) => make("li", { dir: "auto", textContent: text })));
  }

  async function ask(what) {
    now?.abort();
    now = new AbortController();
    const ends = AbortSignal.any([signal, now.signal]);
    stop.hidden = !writes;
    result.ariaBusy = "true";
    await guarded(() => what(ends));
    if (!ends.aborted) {
      stop.hidden = true;
      result.ariaBusy = "false";
    }
  }

  const writing = writes && makeWriting({
    node: result, status, api, run, guarded, signal, again: (ids) => ask((ends) => writing.run(ids, ends)),
    question: () => ({ model: run.name, ...(chats ? { text: message, turns: said } : input.value()), temperature: +warm.value, seed }),
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (chats) speak();
    else if (input.text) (session.texts ??= {})[run.name] = input.text.value;
    seed = Math.floor(Math.random() * 2 ** 31); // kept while tokens are forced
    seen.replaceChildren();
    return ask(async (ends) => {
      if (writes) await writing.run([], ends);
      else result.replaceChildren(...await predicted(api, run, input.value(), second?.value, ends));
      if (run.reads !== "text" && run.looks) seen.replaceChildren(placed((await api.get("look", { model: run.name, ...input.value() }, ends)).markup));
    });
  });
  if (run.reads === "signal") guarded(async () => {
    const sample = await api.get("sample", { model: run.name }, signal); // what was written meanwhile stays
    input.area.value ||= sampleText(sample);
  });
  anew.addEventListener("click", () => {
    now?.abort();
    said.length = 0;
    message = undefined;
    result.hidden = true;
    hear();
    input.area.focus();
  });
  stop.addEventListener("click", () => {
    now?.abort();
    stop.hidden = true;
    status.textContent = "Stopped.";
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

// The text as it is written, and below it the tokens; one that is forced is where the text is written again from.
export function makeWriting({ node, status, api, run: model, question, again, guarded, signal }) {
  const text = make("p", { className: "written", dir: "auto" });
  const chips = make("div", { className: "chips", role: "group", ariaLabel: "Tokens" });
  const panel = make("div", { className: "view", hidden: true });
  node.append(text, chips, make("p", { className: "note" }, "Choose a token to see what else the model could have written; choose one of these to go on from it."), panel);
  node.hidden = true;
  let tokens = [];

  function draw(one, at) {
    const button = chip(one, { ariaExpanded: "false" });
    button.addEventListener("click", () => open(at));
    chips.append(button);
  }

  function open(at) {
    const buttons = [...chips.children], again = buttons[at].ariaExpanded === "true";
    buttons.forEach((button, i) => { button.ariaExpanded = String(i === at && !again); });
    panel.hidden = again;
    if (!again) panel.replaceChildren(...alternatives(at));
  }

  function alternatives(at) {
    const one = tokens[at], rows = one.top.map(([, token, p, end]) => [end ? "the end" : readable(token), Math.exp(p)]);
    const pick = (i) => {
      const [id, , , end] = one.top[i];
      if (!end) again([...tokens.slice(0, at).map((each) => each.id), id]);
    };
    return [make("h3", { textContent: `Token ${at + 1}: what else the model could have written` }), ranked(rows, pick), ...counted(at)];
  }

  // What counted for a token, or by a second click for it rather than another one.
  function counted(at) {
    if (!model.looks || model.does === "chat") return [];
    const { token, id, top } = tokens[at], before = tokens[at - 1]?.text ?? "", shown = make("div", { className: "view", ariaLive: "polite" });
    async function show(instead) {
      const { temperature, seed, ...reads } = question();
      if (model.does === "continue") reads.text = at ? before : reads.text;
      else reads.target = at ? before : tokens.at(-1).text;
      const position = at || model.does === "continue" ? -1 : 0, more = instead ? { instead: instead[0] } : {};
      const [{ sides }, found] = await Promise.all([api.get("inside", reads, signal), api.get("counted", { ...reads, position, output: id, ...more }, signal)]);
      shown.replaceChildren(...layerCounted(found, sides, token, instead?.[1]), rather);
    }
    const others = top.filter(([other]) => other !== id).map((each) => {
      return make("button", { type: "button", onclick: () => guarded(() => show(each)) }, make("bdi", { textContent: readable(each[1]) }));
    });
    const rather = make("div", { className: "row", role: "group", ariaLabel: "Rather than" }, "Rather than:", ...others);
    const button = make("button", { type: "button", textContent: "What counted for it", onclick: () => guarded(() => show()) });
    return [make("div", { className: "row" }, button), shown];
  }

  async function run(kept, signal) {
    tokens = [];
    node.hidden = false;
    panel.hidden = true;
    text.textContent = "";
    chips.replaceChildren();
    status.textContent = "Writing …";
    for await (const piece of api.stream("decode", { ...question(), forced: kept }, signal)) {
      tokens.push(piece);
      text.textContent = piece.text;
      chips.dir = direction(piece.text);
      draw(piece, tokens.length - 1);
    }
    const last = Math.max(0, kept.length - 1);
    roving([...chips.children], last);
    if (kept.length) chips.children[last].focus();
    status.textContent = `${tokens.length} tokens.`;
  }
  return { run, written: () => tokens.at(-1)?.text ?? "" };
}

const predictionParts = (does, found) => ({
  fill: () => found.map((words, i) => make("div", {}, make("h3", { textContent: `Masked word ${i + 1}` }), ranked(words.map(({ word, probability }) => [word, probability])))),
  words: () => [make("h3", { textContent: "Nearest words, by the cosine of their vectors" }), ranked(found, null, (cosine) => cosine.toFixed(2))],
  classify: () => typeof found.label === "number"
    ? [make("p", { className: "written", textContent: found.label.toPrecision(4) })]
    : [make("p", { className: "written", dir: "auto", textContent: found.label }),
      ranked(Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 20))],
  answer: () => [make("p", { className: "written", dir: "auto", textContent: found.text || "No answer in this passage." }), ranked([["probability", found.probability]])],
  tag: () => {
    const pairs = found.words ? found.words.map((word, i) => [word, found.labels[i]]) : labelRuns(found.labels);
    return [make("div", { className: "chips", dir: direction(pairs.map(([name]) => name).join(" ")) }, ...pairs.map(([name, below]) => make("span", { className: "chip" }, make("bdi", { textContent: name }), make("small", { textContent: below }))))];
  },
})[does]();

// Each label of time steps with where it is, once for a run of equal ones.
function labelRuns(labels) {
  const starts = labels.flatMap((label, i) => (i && label === labels[i - 1] ? [] : [i])), more = starts.length - taskMost;
  const runs = starts.slice(0, taskMost).map((first, i) => [labels[first], `${first + 1}–${starts[i + 1] ?? labels.length}`]);
  return more > 0 ? [...runs, ["…", `${more} more`]] : runs;
}

export const taskView = { name: "task", title: "Try it", fits: (run) => run.does in taskLabels, show: showTask };
