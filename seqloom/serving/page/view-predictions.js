// What is predicted at each position of an input, how sure, and what counted for it.
import { asking, field } from "./asking.js";
import { chip, direction, ranked, readable, roving } from "./chips.js";
import { make } from "./draw.js";
import { layerCounted } from "./view-layers.js";

function showPredictions(node, context) {
  const { run, api, guarded } = context, asks = make("div"), result = make("div", { className: "view" });
  node.append(asks, result);
  const extra = run.does === "translate" ? { target: field("Translation to look at (empty: the model's own)", {}) } : {};
  return asking(asks, context, "Predict", async (question, signal) => {
    const { predictions, sides } = await api.get("inside", question, signal), panel = make("div", { className: "view", ariaLive: "polite" });
    const chips = make("div", { className: "chips", dir: direction(predictions.map(({ asked }) => asked).join(" ")), role: "group", ariaLabel: "Predictions" });
    const buttons = predictions.map(({ asked, p }, i) => {
      const button = chip({ token: asked, log_p: Math.log(p) }, { ariaPressed: "false" });
      button.addEventListener("click", () => guarded(() => open(i)));
      return button;
    });
    async function open(i) {
      buttons.forEach((button, k) => { button.ariaPressed = String(k === i); });
      const { asked, best } = predictions[i], list = ranked(best.map(({ output, p }) => [readable(output), p]));
      panel.replaceChildren(make("h3", {}, "Instead of ", make("bdi", { textContent: readable(asked) })), list);
      panel.append(...layerCounted(await api.get("counted", { ...question, position: i }, signal), sides, asked));
    }
    chips.append(...buttons);
    roving(buttons);
    const what = predictions.length > 1 ? "Each output with its probability, given those before it. Choose one." : "The prediction with its probability.";
    result.replaceChildren(make("p", { className: "note", textContent: what }), chips, panel);
    await open(0);
  }, extra);
}

export const predictionsView = { name: "predictions", title: "Why", fits: (run) => run.looks, show: showPredictions };
