// Two runs side by side: one text, what each writes or predicts, and what it attends to; and how far both reach back.
import { make, placed } from "./draw.js";
import { makeWriting, predicted, taskInput, taskWrites } from "./view-task.js";

const alike = (run, runs) => runs.filter((other) => other !== run && other.does === run.does && other.reads === run.reads);

function showCompare(node, context) {
  const { api, run, runs, session, signal, guarded } = context, others = alike(run, runs);
  const other = make("select", {}, ...others.map((each) => make("option", { textContent: each.name, value: each.name })));
  const input = taskInput(run, session), columns = make("div", { className: "columns" });
  const form = make("form", {}, make("label", {}, `${run.name} beside `, other), input.node, make("div", { className: "row" }, make("button", { className: "main", textContent: "Compare" })));
  node.append(form, columns);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    columns.replaceChildren(...[run, others.find((each) => each.name === other.value)].map((each) => column(each, input, context)));
  });
  if (others.every((each) => !each.measurable) || !run.measurable || !api.live) return;
  const reach = make("button", { type: "button", textContent: "Measure" }), plots = make("div"), status = make("p", { className: "note", role: "status" });
  reach.addEventListener("click", () => guarded(async () => {
    reach.disabled = true;
    try {
      for await (const piece of api.stream("microscope", { model: run.name, other: other.value, sentences: 8 }, signal)) {
        status.textContent = piece.measuring ? `Measuring ${piece.measuring} …` : "Measured.";
        if (piece.markup) plots.replaceChildren(placed(piece.markup));
      }
    } finally {
      reach.disabled = false;
    }
  }));
  node.append(
    make("h3", { textContent: "How far back both remember" }),
    make("p", { className: "note", textContent: "Gradients and gates over 8 sentences of validation, as seqloom microscope measures them." }),
    make("div", { className: "row" }, reach), status, plots,
  );
}

function column(run, input, { api, signal, guarded }) {
  const result = make("div", { className: "view" }), status = make("p", { className: "note", role: "status" }), seen = make("div");
  const node = make("section", { ariaLabel: run.name }, make("h3", { textContent: run.name }), status, result, seen);
  const question = () => ({ model: run.name, ...input.value() });
  const writing = makeWriting({ node: result, status, api, run, guarded, signal, question, again: (tokens) => guarded(() => writing.run(tokens, signal)) });
  guarded(async () => {
    if (taskWrites.includes(run.does)) await writing.run([], signal);
    else result.replaceChildren(...await predicted(api, run, input.value(), "", signal));
    result.hidden = false;
    if (run.looks) seen.replaceChildren(placed((await api.get("look", question(), signal)).markup));
  });
  return node;
}

export const compareView = { name: "compare", title: "Side by side", fits: (run, runs) => run.does && alike(run, runs).length > 0, show: showCompare };
