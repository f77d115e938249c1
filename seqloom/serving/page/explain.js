// The page without a server: some views below each other, over answers that lie in the page.
import { make } from "./draw.js";
import { attentionView } from "./view-attention.js";
import { beamView } from "./view-beam.js";
import { layersView } from "./view-layers.js";
import { predictionsView } from "./view-predictions.js";

const kept = JSON.parse(document.querySelector("script[type='application/json']").textContent);

// A question by name: what is asked, in a fixed order.
function answerTo(name, { model, ...question }) {
  const found = kept.answers[name + JSON.stringify(Object.entries(question).sort(([a], [b]) => (a < b ? -1 : 1)))];
  if (found === undefined) throw new Error(`This file does not have that; the page of a server computes it: seqloom serve ${kept.run.name}`);
  return found;
}

const keptAnswers = {
  live: false,
  async get(name, question) {
    return answerTo(name, question);
  },
  async numbers(name, question) {
    const bytes = Uint8Array.from(atob(answerTo(name, question)), (letter) => letter.charCodeAt(0));
    return Float32Array.from({ length: bytes.length / 2 }, (_, i) => (bytes[2 * i] + 256 * bytes[2 * i + 1]) / 65535);
  },
};

for (const view of [predictionsView, attentionView, layersView, beamView].filter((each) => each.fits(kept.run))) {
  const problem = make("p", { className: "problem", role: "alert", hidden: true }), node = make("div", { className: `view ${view.name}` });
  document.querySelector("main").append(make("section", { id: view.name }, make("h2", { textContent: view.title }), problem, node));
  const guarded = async (what) => {
    problem.hidden = true;
    try {
      return await what();
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.message;
    }
  };
  const context = { api: keptAnswers, run: kept.run, runs: [kept.run], session: { question: kept.question }, signal: new AbortController().signal, guarded };
  guarded(() => view.show(node, context));
}
