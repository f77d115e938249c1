// Tokens as chips: each with its probability; one that is open has its alternatives below.
import { make, range, shape } from "./draw.js";

export const percent = (p) => (p < 0.0095 ? "<1 %" : `${Math.round(100 * p)} %`);

// A bar for a share of one.
export function bar(share) {
  const rects = [1, share].map((part) => shape("rect", { width: (100 * part).toFixed(1), height: 4 }));
  return shape("svg", { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" }, ...rects);
}

// A token's readable text; "_" is the space before a word, what has no shape has a sign, and the numbers of bytes stay
// as they are between letters that run from right to left.
export function readable(token) {
  const text = token.replace(/^_(?=.)/, "").replaceAll(/[\r\n]/g, "↵");
  return /^[\s\p{C}]*$/u.test(text) ? "␣" : text.replaceAll(/(\\x[0-9a-f]{2})+/g, "\u2066$&\u2069");
}

// The direction of tokens or of a text, that of the first letter; what stands for a special token or a byte has none.
export function direction(text) {
  const letter = text.replaceAll(/<\/?[^<>\s]*>|\\x[0-9a-f]{2}/g, "").match(/\p{L}/u)?.[0] ?? "";
  return /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u.test(letter) ? "rtl" : "ltr";
}

// A chip for a token { token, log_p, end, forced }.
export function chip(one, more = {}) {
  const p = one.log_p == null ? null : Math.exp(one.log_p), name = one.end ? "end" : readable(one.token);
  const parts = [make("bdi", { textContent: name })];
  if (p !== null) parts.push(make("small", { textContent: percent(p) }), bar(p));
  const node = make("button", { type: "button", className: "chip", ...more }, ...parts);
  node.classList.toggle("forced", Boolean(one.forced));
  node.classList.toggle("end", Boolean(one.end));
  if (one.forced) node.title = "forced";
  return node;
}

// Makes one of several buttons reachable by Tab, and the others by the arrow keys from it.
export function roving(nodes, first = 0) {
  nodes.forEach((node, i) => {
    node.tabIndex = i === first ? 0 : -1;
    node.onkeydown = (event) => {
      const right = getComputedStyle(node.parentElement).direction === "rtl" ? -1 : 1;
      const to = { ArrowRight: i + right, ArrowLeft: i - right, Home: 0, End: nodes.length - 1 }[event.key];
      if (to === undefined || !nodes[to]) return;
      event.preventDefault();
      for (const k of range(nodes.length)) nodes[k].tabIndex = k === to ? 0 : -1;
      nodes[to].focus();
    };
  });
}

// Names with shares of one as a list of bars; `pick`, where there is one, is called with the place of the chosen.
export function ranked(rows, pick, format = percent) {
  const items = rows.map(([name, p], i) => {
    const parts = [make("bdi", { textContent: name }), " ", make("small", { textContent: format(p) }), bar(Math.max(0, p))];
    return make("li", {}, pick ? make("button", { type: "button", onclick: () => pick(i) }, ...parts) : make("div", {}, ...parts));
  });
  return make("ul", { className: "choices" }, ...items);
}
