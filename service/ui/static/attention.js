// Step 4 of "Look inside": chooses a layer and a head, and keeps the overview, the heatmap and the lines in step.

import { api } from "./api.js";
import { make, notice } from "./dom.js";
import { Heatmap } from "./heatmap.js";
import { Lines } from "./lines.js";
import { Overview } from "./overview.js";
import { largest, viridis } from "./palette.js";
import { tokenLabels } from "./tokens.js";

const READOUT_HINT = "Point at a cell or a token to read its weight.";

export class AttentionPanel {
  /** onPick gets (layer, head) whenever the choice changes, for the URL. */
  constructor(place, onPick) {
    this.onPick = onPick;
    this.overview = new Overview((layer, head) => this.pick(layer, head));
    this.heatmap = new Heatmap((from, to) => this.readCell(from, to));
    this.lines = new Lines((from) => this.readRow(from));
    this.layerChoice = make("div", { class: "segments", role: "group", "aria-label": "Layer" });
    this.headChoice = make("div", { class: "segments", role: "group", "aria-label": "Head" });
    this.stretch = make("input", { type: "checkbox", id: "attention-stretch", change: () => this.draw() });
    this.readout = make("p", { class: "readout", "aria-live": "polite" }, READOUT_HINT);
    this.title = make("h3", { class: "panel-title" });
    this.scaleTop = make("span", {}, "1");
    this.message = make("div", {});
    this.body = make("div", { class: "attention", hidden: true }, this.chooser(), this.figures());
    place.replaceChildren(this.message, this.body);
  }

  chooser() {
    return make("div", { class: "attention-chooser" },
      make("div", { class: "attention-overview" }, make("h3", { class: "panel-title" }, "All heads"), this.overview.place),
      make("div", { class: "attention-controls" },
        make("div", { class: "field" }, make("span", { class: "field-name" }, "Layer"), this.layerChoice),
        make("div", { class: "field" }, make("span", { class: "field-name" }, "Head"), this.headChoice),
        make("div", { class: "field" }, make("span", { class: "field-name" }, "Colour"), this.legend(),
          make("label", { class: "check" }, this.stretch, "Stretch to the largest weight of this head"))));
  }

  legend() {
    const gradient = make("span", { class: "legend-gradient", "aria-hidden": "true" });
    const stops = Array.from({ length: 9 }, (_, index) => `rgb(${viridis(index / 8).join(" ")})`);
    gradient.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
    return make("div", { class: "legend" }, make("span", {}, "0"), gradient, this.scaleTop, make("span", { class: "hint" }, "weight"));
  }

  figures() {
    const download = (label, all) => make("button", { type: "button", class: "button button-small", click: () => this.download(all) }, label);
    return make("div", { class: "attention-figures" },
      make("div", { class: "figure-head" }, this.title,
        make("div", { class: "figure-actions" }, download("PNG of this head", false), download("PNG of all heads", true))),
      this.readout,
      make("div", { class: "figure-pair" },
        make("figure", {}, this.heatmap.canvas, make("figcaption", { class: "hint" }, "Row: the token that looks. Column: the token it looks at.")),
        make("figure", {}, this.lines.place, make("figcaption", { class: "hint" }, "Left looks at right. A stronger line is a larger weight."))));
  }

  /** Shows a fresh answer; the wanted layer and head are kept where this model has them. */
  show(attention, wanted, input) {
    this.attention = attention;
    this.input = input;
    this.labels = tokenLabels(attention, input);
    this.layer = attention.layers.includes(wanted.layer) ? wanted.layer : attention.layers[0];
    this.head = attention.heads.includes(wanted.head) ? wanted.head : attention.heads[0];
    this.body.hidden = false;
    this.message.replaceChildren(attention.truncated
      ? make("p", { class: "hint" }, `The text is long: attention is shown for its first ${attention.tokens.length} tokens.`) : "");
    this.overview.show(attention);
    this.fillChoice(this.layerChoice, attention.layers, "Layer", (layer) => this.pick(layer, this.head));
    this.fillChoice(this.headChoice, attention.heads, "Head", (head) => this.pick(this.layer, head));
    this.draw();
  }

  showError(error) {
    this.body.hidden = true;
    this.message.replaceChildren(notice("error", "No attention to show", error.message));
  }

  clear() {
    this.body.hidden = true;
    this.message.replaceChildren();
  }

  fillChoice(place, numbers, name, pick) {
    place.replaceChildren(...numbers.map((number) => make("button", {
      type: "button", class: "segment", "data-number": number, "aria-label": `${name} ${number}`, click: () => pick(number),
    }, String(number))));
  }

  pick(layer, head) {
    this.layer = layer;
    this.head = head;
    this.draw();
    this.onPick(layer, head);
  }

  draw() {
    const { attention, layer, head } = this;
    if (!attention) return;
    this.matrix = attention.weights[attention.layers.indexOf(layer)][attention.heads.indexOf(head)];
    const scale = this.stretch.checked ? largest(this.matrix) : 1;
    const name = `Layer ${layer}, head ${head}`;
    this.title.textContent = name;
    this.scaleTop.textContent = scale === 1 ? "1" : scale.toFixed(2);
    for (const [place, chosen] of [[this.layerChoice, layer], [this.headChoice, head]]) {
      for (const button of place.children) button.setAttribute("aria-pressed", String(Number(button.dataset.number) === chosen));
    }
    this.overview.mark(layer, head);
    this.heatmap.show(this.labels, this.matrix, scale, `Attention weights of ${name.toLowerCase()}`);
    this.lines.show(this.labels, this.matrix, scale, `Attention of ${name.toLowerCase()}`);
    this.readout.textContent = READOUT_HINT;
  }

  readCell(from, to) {
    this.lines.mark(from);
    if (from === null) this.readout.textContent = READOUT_HINT;
    else this.read(from, to);
  }

  readRow(from) {
    if (from === null) this.readout.textContent = READOUT_HINT;
    else this.read(from, this.matrix[from].indexOf(Math.max(...this.matrix[from])), " (its largest)");
  }

  read(from, to, remark = "") {
    this.readout.replaceChildren("from ", make("strong", {}, this.labels[from]), " → to ", make("strong", {}, this.labels[to]), ": ",
      make("strong", {}, this.matrix[from][to].toFixed(3)), remark);
  }

  async download(all) {
    try {
      const blob = await api.attentionImage(this.attention.model, this.input, all ? null : this.layer, all ? null : this.head);
      const address = URL.createObjectURL(blob);
      make("a", { href: address, download: all ? "attention.png" : `attention-layer${this.layer}-head${this.head}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000); // the browser reads it after this task
      this.message.replaceChildren();
    } catch (error) {
      this.message.replaceChildren(notice("error", "The picture did not come", error.message));
    }
  }
}
