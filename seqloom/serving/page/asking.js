// What several views share: the form for one input that is looked at, lists to choose from, files to keep.
import { make, shape } from "./draw.js";
import { sampleText, taskInput } from "./view-task.js";

// Asks for a text, two, a picture, perhaps with a text, or a signal, and calls `look(question, signal)` with it: at
// once with what was asked last, or with a sample of the training. `extra` are further fields, { key: node }, whose
// values are part of the question.
export async function asking(node, { api, run, session, signal, guarded }, label, look, extra = {}) {
  let now;
  async function ask(question) {
    now?.abort();
    now = new AbortController();
    node.parentElement.ariaBusy = "true";
    await guarded(() => look(question, AbortSignal.any([signal, now.signal])));
    node.parentElement.ariaBusy = "false";
  }
  if (!api.live) {
    node.append(askedFor(session.question));
    return ask({ model: run.name, ...session.question });
  }
  const input = taskInput(run, session), both = run.does === "answer" || run.pairs;
  const second = both ? make("textarea", { rows: 3, dir: "auto" }) : null;
  const go = make("button", { className: "main", textContent: label });
  const form = make("form", {}, input.node, ...(second ? [make("label", { className: "field" }, run.does === "answer" ? "Passage" : "Second text", second)] : []));
  for (const each of Object.values(extra)) form.append(each.label ?? each);
  form.append(make("div", { className: "row" }, go));
  node.append(form);
  const question = () => {
    const found = { model: run.name, ...input.value() };
    if (second) found.second = second.value;
    for (const [key, each] of Object.entries(extra)) if (each.value !== "") found[key] = each.type === "number" ? +each.value : each.value;
    return found;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.text) (session.texts ??= {})[run.name] = input.text.value;
    if (second) (session.seconds ??= {})[run.name] = second.value;
    guarded(() => ask(question()));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const sample = await api.get("sample", { model: run.name }, signal);
  if (input.text) input.text.value ||= sampleText(sample);
  if (sample.image) await input.show(sample.image);
  if (second) second.value = session.seconds?.[run.name] ?? sample.second;
  if (input.text?.value !== "" && (!input.show || sample.image)) return ask(question());
}

function askedFor({ text, second, target }) {
  const parts = [text, second, target && `→ ${target}`].filter(Boolean);
  return make("div", {}, ...parts.map((part) => make("p", { className: "written", dir: "auto", textContent: part })));
}

// A field with its label; what is left empty is not asked for.
export function field(label, more) {
  const input = make("input", { type: "text", dir: "auto", ...more });
  return Object.assign(input, { label: make("label", { className: input.type === "number" ? "" : "field" }, label, input) });
}

// A list to choose from, with its label; `change` is called with the number of the chosen.
export function choice(label, names, at, change) {
  const select = make("select", {}, ...names.map((name, i) => make("option", { value: i, textContent: name, selected: i === at })));
  select.addEventListener("change", () => change(+select.value));
  return make("label", {}, label, select);
}

// Buttons of which one is pressed; `change` is called with its number.
export function switches(label, names, at, change) {
  const buttons = names.map((name, i) => {
    const button = make("button", { type: "button", textContent: name, ariaPressed: String(i === at) });
    button.addEventListener("click", () => {
      for (const each of buttons) each.ariaPressed = String(each === button);
      change(i);
    });
    return button;
  });
  return make("div", { className: "switches", role: "group", ariaLabel: label }, ...buttons);
}

// What may be wider than the screen, and is then scrolled, by key as well.
export const scrollable = (name, ...content) => make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: name }, ...content);

// Gives a file to keep.
export function keep(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The text of a drawing by itself, in the colours that it has here.
export function drawingText(svg) {
  const copy = svg.cloneNode(true), looks = ["fill", "stroke", "stroke-width", "font-size", "font-family", "font-weight", "text-anchor"];
  const each = [svg, ...svg.querySelectorAll("text, g, path, line, .frame")], copies = [copy, ...copy.querySelectorAll("text, g, path, line, .frame")];
  copies.forEach((node, i) => {
    const style = getComputedStyle(each[i]);
    for (const name of looks) node.setAttribute(name, style.getPropertyValue(name));
  });
  copy.prepend(shape("rect", { width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor }));
  return new XMLSerializer().serializeToString(copy);
}
