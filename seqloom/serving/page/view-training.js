// The training of a run, while it goes on or afterwards; and what the model attends to at each of its checkpoints.
import { make, placed } from "./draw.js";

const trainingEvery = 2000; // milliseconds between looks at a training that goes on

function showTraining(node, { api, run, session, signal, guarded }) {
  const status = make("p", { className: "note", role: "status" }), charts = make("div"), samples = make("div");
  const emerging = make("div", { className: "view", hidden: true });
  node.append(status, charts, emerging, make("h3", { textContent: "Samples" }), samples);
  let rows = -1, watched;

  async function look() {
    const found = await api.get("training", { model: run.name, rows }, signal);
    status.textContent = found.finished
      ? `Trained: ${found.step.toLocaleString()} steps.`
      : `In training: step ${found.step.toLocaleString()}.`;
    // What is pointed at stays where it is until the pointer has left.
    if ("charts" in found && !(rows >= 0 && (charts.matches(":hover") || charts.contains(document.activeElement)))) {
      rows = found.rows;
      charts.replaceChildren(placed(found.charts));
      samples.replaceChildren(placed(found.samples));
      samples.querySelectorAll("td").forEach((cell) => { cell.dir = "auto"; });
    }
    if (found.checkpoints.length && run.looks) {
      watched ??= watch(found.text);
      watched(found);
    }
    if (!found.finished && api.live) {
      const timer = setTimeout(() => guarded(look), trainingEvery);
      signal.addEventListener("abort", () => clearTimeout(timer));
    }
  }

  // A slider over the checkpoints; returns what lets it know of further ones.
  function watch(sample) {
    const text = make("textarea", { rows: 2, dir: "auto", value: session.texts?.[run.name] || sample || "" });
    const slider = make("input", { type: "range", min: 0, step: 1 }), label = make("output"), picture = make("div");
    const again = make("button", { type: "button", textContent: "Show" });
    let steps = [], best, asked, drawn = false;
    function name() {
      const step = steps[slider.value];
      slider.ariaValueText = label.textContent = `step ${step.toLocaleString()}${step === best ? ", the best" : ""}`;
      return step;
    }
    async function draw() {
      const step = name();
      asked?.abort();
      asked = new AbortController();
      const { markup } = await api.get("look", { model: run.name, text: text.value, step }, AbortSignal.any([signal, asked.signal]));
      keepChoices(picture, () => picture.replaceChildren(placed(markup)));
    }
    slider.addEventListener("input", () => guarded(draw));
    again.addEventListener("click", () => guarded(draw));
    emerging.append(
      make("h3", { textContent: "Attention by checkpoint" }),
      make("p", { className: "note", textContent: "Attention shows where the model looked, not why." }),
      make("label", { className: "field" }, "Text", text), make("div", { className: "row" }, again, make("label", {}, "Checkpoint", slider), label), picture,
    );
    emerging.hidden = false;
    return (found) => {
      const at = steps[slider.value] ?? found.checkpoints.at(-1);
      ({ checkpoints: steps, best } = found);
      slider.max = steps.length - 1;
      slider.value = Math.max(0, steps.indexOf(at));
      name();
      drawn ||= Boolean(guarded(draw));
    };
  }
  return look();
}

// Draws again, and chooses again what was chosen from the lists before.
function keepChoices(node, draw) {
  const before = [...node.querySelectorAll("select")].map((select) => select.value);
  draw();
  [...node.querySelectorAll("select")].forEach((select, i) => {
    if (before[i] === undefined || select.value === before[i]) return;
    select.value = before[i];
    select.dispatchEvent(new Event("change"));
  });
}

export const trainingView = { name: "training", title: "Training", fits: (run) => run.trained, show: showTraining };
