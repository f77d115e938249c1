// Embeddings: a map, neighbours and analogies, of word vectors or of the tokens of any model.
import { ranked } from "./chips.js";
import { make, placed } from "./draw.js";

const cosine = (value) => value.toFixed(2);

function showEmbeddings(node, { api, run, signal, guarded }) {
  const table = make("select", {}, ...run.tables.map((name, i) => make("option", { value: i, textContent: name })));
  const word = make("input", { dir: "auto" }), near = make("div"), map = make("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: "Map" });
  const around = make("button", { type: "button", textContent: "Map of these", hidden: true });
  const whole = make("button", { type: "button", textContent: "Map of frequent words", hidden: true });
  const three = ["", "", ""].map(() => make("input", { dir: "auto", size: 10 }));
  const [a, b, c] = three, found = make("div");
  const question = (more) => ({ model: run.name, table: +table.value, ...more });
  let last = [];

  async function draw(words = []) {
    const answer = await api.get("map", question({ words }), signal);
    map.replaceChildren(placed(answer.markup));
    whole.hidden = !words.length;
    for (const dot of map.querySelectorAll("g")) {
      const name = dot.querySelector("title").textContent;
      dot.dataset.word = name;
      dot.addEventListener("click", () => guarded(() => neighbours(name)));
    }
    mark();
  }

  function mark() {
    for (const dot of map.querySelectorAll("g")) dot.classList.toggle("on", last.includes(dot.dataset.word));
  }

  async function neighbours(name) {
    word.value = name;
    const answer = await api.get("near", question({ words: [name] }), signal);
    last = [...answer.words, ...answer.near.map(([other]) => other)];
    const title = make("h3", {}, "Nearest to ", make("bdi", { textContent: answer.words[0] }), ", by cosine");
    near.replaceChildren(title, ranked(answer.near, (i) => guarded(() => neighbours(answer.near[i][0])), cosine));
    around.hidden = false;
    mark();
  }

  async function analogy() {
    const answer = await api.get("near", question({ words: three.map((each) => each.value.trim()).filter(Boolean), analogy: true }), signal);
    found.replaceChildren(ranked(answer.near, null, cosine));
  }

  const search = make("form", {}, make("label", { className: "field" }, "Word or token", word), make("div", { className: "row" }, make("button", { className: "main", textContent: "Find neighbours" }), around, whole));
  const asked = make("form", {}, make("h3", { textContent: "Analogy" }), make("div", { className: "row" },
    make("label", {}, "As ", a), make("label", {}, "is to ", b), make("label", {}, "so is ", c), " to …", make("button", { className: "main", textContent: "Solve" })));
  search.addEventListener("submit", (event) => { event.preventDefault(); guarded(() => neighbours(word.value.trim())); });
  asked.addEventListener("submit", (event) => { event.preventDefault(); guarded(analogy); });
  around.addEventListener("click", () => guarded(() => draw(last)));
  whole.addEventListener("click", () => guarded(() => draw()));
  table.addEventListener("change", () => guarded(() => { near.replaceChildren(); last = []; return draw(); }));
  if (run.tables.length > 1) node.append(make("label", {}, "Table", table));
  node.append(search, near, map, asked, found);
  return draw();
}

export const embeddingsView = { name: "embeddings", title: "Embeddings", fits: (run) => run.tables.length > 0, show: showEmbeddings };
