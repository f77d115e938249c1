// The frame of the page: which run and which view are shown. Both are in the address, as #view/run.
import { api } from "./api.js";
import { make } from "./draw.js";
import { attentionView } from "./view-attention.js";
import { beamView } from "./view-beam.js";
import { compareView } from "./view-compare.js";
import { embeddingsView } from "./view-embeddings.js";
import { layersView } from "./view-layers.js";
import { predictionsView } from "./view-predictions.js";
import { taskView } from "./view-task.js";
import { trainingView } from "./view-training.js";

const views = [taskView, attentionView, beamView, layersView, predictionsView, compareView, embeddingsView, trainingView];
const select = document.querySelector("#run"), tabs = document.querySelector("#tabs");
const problem = document.querySelector("#problem"), place = document.querySelector("#view");
const session = {}; // what views keep for each other while the page is open: the text of each run, ...
let runs = [], leave;

const addressOf = (view, run) => `#${view.name}/${encodeURIComponent(run.name)}`;

function chosen() {
  const [name, run] = location.hash.slice(1).split("/");
  const one = runs.find((each) => each.name === decodeURIComponent(run ?? "")) ?? runs[0];
  const fitting = views.filter((view) => view.fits(one, runs));
  return { run: one, fitting, view: fitting.find((view) => view.name === name) ?? fitting[0] };
}

// Shows what went wrong where a screen reader reads it; "" = nothing.
function report(error) {
  problem.hidden = !error;
  problem.textContent = error && (error.message || String(error));
}

async function show() {
  const { run, fitting, view } = chosen();
  select.value = run.name;
  tabs.replaceChildren(...fitting.map((each) => {
    const link = make("a", { href: addressOf(each, run), textContent: each.title });
    if (each === view) link.ariaCurrent = "page";
    return link;
  }));
  leave?.abort();
  leave = new AbortController();
  report(view ? "" : `There is nothing to show of ${run.name}.`);
  place.replaceChildren();
  place.ariaBusy = "false";
  if (!view) return;
  document.title = `${view.title} · ${run.name} · seqloom`;
  const node = make("div", { className: `view ${view.name}` });
  place.ariaBusy = "true";
  place.replaceChildren(make("h2", { textContent: view.title }), node);
  await guarded(() => view.show(node, { api, run, runs, session, signal: leave.signal, guarded }));
  place.ariaBusy = "false";
}

// Runs what may fail, and reports how; what a view has left behind is no failure.
async function guarded(what) {
  report("");
  try {
    return await what();
  } catch (error) {
    if (error.name !== "AbortError") report(error);
  }
}

select.addEventListener("change", () => {
  location.hash = addressOf(chosen().view, runs.find((run) => run.name === select.value));
});
addEventListener("hashchange", async () => {
  const tabbed = tabs.contains(document.activeElement);
  await show();
  if (tabbed) tabs.querySelector("[aria-current]").focus(); // the link that was followed is a new one
});
guarded(async () => {
  ({ runs } = await api.get("runs"));
  select.replaceChildren(...runs.map((run) => make("option", { value: run.name, textContent: `${run.name}: ${run.does}` })));
  await show();
});
