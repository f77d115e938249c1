// The box: a text in, what the model writes or predicts out.
import { chip, ranked, readable, roving } from "./chips.js";
import { make, placed } from "./draw.js";

const taskLabels = {
  translate: ["Text to translate", "Translate"], continue: ["Beginning of a text", "Continue"], chat: ["Message", "Send"],
  caption: ["Picture", "Describe"], fill: ["Text with a masked word", "Fill"], classify: ["Text", "Classify"],
  answer: ["Question", "Answer"], tag: ["Sentence", "Tag"], words: ["Word, or several", "Find neighbours"],
};
export const taskWrites = ["translate", "continue", "chat", "caption"];

// A text area or, for pictures, a file; `value()` is what is asked for.
export function taskInput(run, session) {
  const [text] = taskLabels[run.does], image = run.does === "caption" || run.reads === "image";
  if (!image) {
    const area = make("textarea", { rows: 3, dir: "auto", value: session.texts?.[run.name] ?? (run.mask && `Paris is the ${run.mask} of France.`) });
    return { node: make("label", { className: "field" }, text, area), value: () => ({ text: area.value }), area };
  }
  const file = make("input", { type: "file", accept: "image/*" }), picture = make("canvas", { className: "picture", hidden: true });
  const show = async (source) => {
    const bitmap = source instanceof Blob ? await createImageBitmap(source) : Object.assign(new Image(), { src: source });
    await bitmap.decode?.();
    const scale = Math.min(1, 384 / Math.max(bitmap.width, bitmap.height));
    Object.assign(picture, { width: Math.max(1, bitmap.width * scale), height: Math.max(1, bitmap.height * scale), hidden: false });
    picture.getContext("2d").drawImage(bitmap, 0, 0, picture.width, picture.height);
  };
  file.addEventListener("change", () => file.files.length && show(file.files[0]));
  return { node: make("label", { className: "field" }, "Picture", file, picture), value: () => taskPixels(picture), area: file, show };
}

// The pixels of a picture as the server takes them.
function taskPixels(canvas) {
  if (canvas.hidden) throw new Error("Choose a picture first.");
  const { width, height } = canvas, { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const bytes = data.filter((_, i) => i % 4 < 3);
  return { image: { width, height, data: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) } };
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
  const status = make("p", { className: "note", role: "status" });
  const turns = make("ol", { className: "turns", hidden: true });
  node.append(turns, form, status, result);
  let now;

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
    node: result, status, api, again: (tokens) => ask((ends) => writing.run(tokens, ends)),
    question: () => ({ model: run.name, ...input.value(), temperature: +warm.value }),
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.area.type === "textarea") (session.texts ??= {})[run.name] = input.area.value;
    if (writes) return ask((ends) => writing.run([], ends));
    return ask(async (ends) => {
      const found = await api.get("predict", { model: run.name, ...input.value(), second: second?.value ?? "" }, ends);
      result.replaceChildren(...predictionParts(found));
      if (run.reads === "image") result.append(placed((await api.get("look", { model: run.name, ...input.value() }, ends)).markup));
    });
  });
  stop.addEventListener("click", () => {
    now?.abort();
    stop.hidden = true;
    status.textContent = "Stopped.";
  });
  input.area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

// The text as it is written, and below it the tokens; one that is forced is where the text is written again from.
export function makeWriting({ node, status, api, question, again }) {
  const text = make("p", { className: "written", dir: "auto" });
  const chips = make("div", { className: "chips", dir: "auto", role: "group", ariaLabel: "Tokens" });
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
      const [id, token, log_p, end] = one.top[i];
      if (!end) again([...tokens.slice(0, at), { ...one, id, token, log_p, forced: true, end }]);
    };
    return [make("h3", { textContent: `Token ${at + 1}: what else the model could have written` }), ranked(rows, pick)];
  }

  async function run(kept, signal) {
    tokens = [...kept];
    node.hidden = false;
    panel.hidden = true;
    text.textContent = "";
    chips.replaceChildren();
    tokens.forEach(draw);
    status.textContent = "Writing …";
    for await (const piece of api.stream("decode", { ...question(), forced: kept.map((one) => one.id) }, signal)) {
      tokens.push(piece);
      text.textContent = piece.text;
      draw(piece, tokens.length - 1);
    }
    roving([...chips.children], kept.length ? kept.length - 1 : 0);
    if (kept.length) chips.children[kept.length - 1].focus();
    status.textContent = `${tokens.length} tokens.`;
  }
  return { run };
}

// What a model that reads predicts, by kind.
export const predictionParts = (found) => ({
  fill: () => found.masks.map((rows, i) => make("div", {}, make("h3", { textContent: `Masked word ${i + 1}` }), ranked(rows))),
  words: () => [make("h3", { textContent: "Nearest words, by the cosine of their vectors" }), ranked(found.near)],
  classify: () => typeof found.label === "number"
    ? [make("p", { className: "written", textContent: found.label.toPrecision(4) })]
    : [make("p", { className: "written", dir: "auto", textContent: found.label }),
      ranked(Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 20))],
  answer: () => [make("p", { className: "written", dir: "auto", textContent: found.text || "No answer in this passage." }), ranked([["probability", found.probability]])],
  tag: () => [make("div", { className: "chips", dir: "auto" }, ...found.words.map((word, i) => make("span", { className: "chip" }, make("bdi", { textContent: word }), make("small", { textContent: found.labels[i] }))))],
})[found.kind]();

export const taskView = { name: "task", title: "Try it", fits: (run) => run.does in taskLabels, show: showTask };
