// The place "Look inside": one text, followed from characters to tokens, label and attention.
import * as api from "/ui/api.js";
import { heatmap, legend, lines, overview } from "/ui/attention.js";
import { element, newest } from "/ui/dom.js";

const EXAMPLES = [
  "A gorgeous, witty, seductive movie.",
  "The plot is thin and the jokes fall flat, but the actors save it.",
  "I have never been so bored in a cinema.",
  "这部电影非常好看。",
];
const ask = newest();

export async function show(place, parameters, go) {
  const models = await api.models();
  const wanted = parameters.get("model");
  const classifier = models.find((model) => model.task === "classification");
  const model = models.find((item) => item.id === wanted) ?? classifier ?? models[0];
  const text = parameters.get("text") ?? EXAMPLES[0];
  const area = element("textarea", { id: "text", "aria-describedby": "text-hint" }, text);
  const select = element("select", { id: "model" }, models.map((item) => {
    const kind = item.task === "classification" ? `classifier: ${item.labels.join(", ")}` : "base model, embeddings";
    return element("option", { value: item.id, selected: item.id === model?.id }, `${item.id} (${kind})`);
  }));
  const run = () => go("look", { model: select.value, text: area.value });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); run(); }
  });
  select.addEventListener("change", run);
  const flow = element("div");
  place.replaceChildren(
    element("h1", {}, "Look inside"),
    element("p", { class: "hint" }, "Follow one sentence through the model: what goes in, what comes out, and what happens between."),
    element("section", { class: "card step", "data-step": "1" },
      element("h2", {}, "The text"),
      element("p", { class: "hint", id: "text-hint" }, "Type a sentence and press Enter."),
      area,
      element("div", { class: "chips" }, EXAMPLES.map((example) => element("button", { onclick: () => { area.value = example; run(); } }, example))),
      element("div", { class: "row" },
        element("div", { class: "grow" }, element("label", { for: "model" }, "Model"), select),
        element("button", { class: "main", id: "run", onclick: run }, "Run"))),
    flow,
  );
  if (!model) {
    flow.replaceChildren(element("p", { class: "error" }, "No model is in the store yet; run make serve, or vitrine setup."));
    return;
  }
  await follow(flow, model, text, parameters, go);
}

async function follow(flow, model, text, parameters, go) {
  const isNewest = ask();
  try {
    const [tokens, label, attention] = await Promise.all([
      api.tokenize(model.id, text),
      model.task === "classification" ? api.classify(model.id, text) : null,
      api.attention(model.id, text),
    ]);
    if (!isNewest()) return;
    flow.replaceChildren(tokenCard(tokens, text), labelCard(label, model), attentionCard(attention, model, text, parameters, go));
  } catch (error) {
    if (isNewest()) flow.replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
  }
}

function tokenCard(tokens, text) {
  const characters = Array.from(text);
  const unknown = tokens.tokens.filter((token) => token === "[UNK]").length;
  const chips = tokens.tokens.map((token, index) => {
    const [start, end] = tokens.offsets[index];
    const kind = tokens.special[index] ? "special" : token === "[UNK]" ? "unknown" : "";
    const title = tokens.special[index] ? "a special token, it stands for no text" : `characters ${start} to ${end}: “${characters.slice(start, end).join("")}”`;
    return element("span", { class: `token ${kind}`, title }, token, element("small", {}, String(tokens.ids[index])));
  });
  const cut = tokens.truncated ? " The text was longer than the model reads; the end is cut." : "";
  const missing = unknown ? ` ${unknown} unknown to this vocabulary ([UNK]): the model cannot tell them apart.` : "";
  return element("section", { class: "card step", "data-step": "2" },
    element("h2", {}, "Tokens"),
    element("p", { class: "hint" }, `The text is cut into ${chips.length} tokens, each a number in the vocabulary. Hover one to see where it comes from.${cut}${missing}`),
    element("div", { class: "chips", id: "tokens" }, chips));
}

function labelCard(label, model) {
  const card = element("section", { class: "card step", "data-step": "3", id: "label" }, element("h2", {}, "Label"));
  if (label === null) {
    card.append(element("p", { class: "hint" }, `${model.id} is a base model: it turns text into vectors and has no labels yet. Tune it on labelled rows, or wait for the demonstration job, in `, element("a", { href: "#/tune" }, "Tune"), "."));
    return card;
  }
  card.append(element("p", { class: "hint" }, `The model's answer: ${label.label}. The scores sum to 1.`));
  for (const { label: name, score } of label.scores) {
    const fill = element("span");
    fill.style.width = `${100 * score}%`;
    card.append(element("div", { class: `score ${name === label.label ? "best" : ""}` }, element("b", {}, name), element("div", { class: "track" }, fill), element("span", { class: "number" }, score.toFixed(3))));
  }
  return card;
}

function attentionCard(answer, model, text, parameters, go) {
  const within = (name, count) => Math.min(count - 1, Math.max(0, Number(parameters.get(name) ?? 0) || 0));
  const state = { layer: within("layer", answer.layers.length), head: within("head", answer.heads.length) };
  const body = element("div");
  const readout = element("p", { class: "readout", role: "status" }, "Hover a cell.");
  // A token outside the vocabulary is shown as the characters it stands for.
  const shown = answer.tokens.map((token, index) => {
    const characters = Array.from(text).slice(...answer.offsets[index]).join("");
    return token === "[UNK]" && characters ? `${characters}*` : token;
  });
  const picker = (name, count) => element("div", { class: "picker", role: "group", "aria-label": name }, element("span", {}, name), Array.from({ length: count }, (_, index) =>
    element("button", { class: state[name] === index ? "on" : "", "aria-pressed": String(state[name] === index), onclick: () => { state[name] = index; draw(); } }, String(index))));
  function draw() {
    const rows = answer.weights[state.layer][state.head];
    const side = element("div", {}, lines(rows, shown, null));
    const hover = (from, to) => {
      readout.textContent = `“${shown[from]}” looks at “${shown[to]}”: ${rows[from][to].toFixed(3)}`;
      side.replaceChildren(lines(rows, shown, from));
    };
    const map = heatmap(rows, shown, hover);
    map.addEventListener("mouseleave", () => side.replaceChildren(lines(rows, shown, null)));
    body.replaceChildren(
      picker("layer", answer.layers.length), picker("head", answer.heads.length),
      element("div", { class: "views" }, element("div", {}, map, readout, legend()), element("div", { class: "scroll" }, side)),
      element("h2", {}, "All layers and heads"),
      element("p", { class: "hint" }, "Each tile is one head. Click one to open it above."),
      overview(answer, state.layer, state.head, (layer, head) => { Object.assign(state, { layer, head }); draw(); }),
    );
    go("look", { model: model.id, text, layer: state.layer, head: state.head }, { quiet: true });
  }
  const download = element("button", { onclick: async () => {
    const url = URL.createObjectURL(await api.attentionPicture(model.id, text, state.layer, state.head));
    element("a", { href: url, download: `attention-layer${state.layer}-head${state.head}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } }, "Download PNG");
  draw();
  return element("section", { class: "card step", "data-step": "4", id: "attention" },
    element("h2", {}, "Attention"),
    element("p", { class: "hint" }, "Each row is a token that looks, each column a token it looks at. Raw attention shows where information is mixed from; it does not by itself explain the decision."),
    body, element("p", {}, download));
}
