// All data that views show come through here. A page without a server has the same functions over data of its own.

// What a server refuses, in its words.
export class Refused extends Error {}

async function asked(name, body, signal) {
  const path = name.startsWith("v1/") ? `/${name}` : `/inspect/${name}`;
  const more = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...more, signal });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Refused(error?.message ?? `the server answers ${answer.status}`);
}

export const api = {
  // Whether it computes what it is asked for now, with any text; false = it has what it was made with.
  live: true,

  // The answer to a question of a view: `get("runs")`, `get("v1/fill", { model, texts })`.
  async get(name, question, signal) {
    return (await asked(name, question, signal)).json();
  },

  // The same for an answer that is numbers from 0 to 1, of 16 bits each.
  async numbers(name, question, signal) {
    const bytes = new DataView(await (await asked(name, question, signal)).arrayBuffer());
    return Float32Array.from({ length: bytes.byteLength / 2 }, (_, i) => bytes.getUint16(2 * i, true) / 65535);
  },

  // The same for an answer that comes piece by piece.
  async *stream(name, question, signal) {
    const reader = (await asked(name, question, signal)).body.getReader(), decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      text += decoder.decode(value, { stream: !done });
      const lines = text.split("\n\n");
      text = lines.pop();
      for (const line of lines.map((each) => each.replace(/^data: /, ""))) {
        if (line === "[DONE]") return;
        const piece = JSON.parse(line);
        if (piece.error) throw new Refused(piece.error.message);
        yield piece;
      }
      if (done) throw new Refused("the server ended in the middle of its answer");
    }
  },
};
