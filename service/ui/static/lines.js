// One head as lines between two columns of tokens: left looks, right is looked at, opacity is the weight. It shows
// direction better than the heatmap does, and a hovered token shows its lines alone.

import { make, makeSvg } from "./dom.js";
import { percent } from "./format.js";

const FAINTEST = 0.02; // below this a line can't be seen, and 128 tokens would draw 16,384 of them
const WIDTH = 420;
const LEFT = 130;
const RIGHT = 270;
const LABEL_CHARACTERS = 12;

export class Lines {
  /** onRow gets the index of the hovered left token, or null. */
  constructor(onRow) {
    this.onRow = onRow;
    this.place = make("div", { class: "lines", tabindex: "0", role: "img" });
  }

  show(tokens, matrix, scale, description) {
    const step = tokens.length > 40 ? 16 : tokens.length > 14 ? 26 : 38;
    const middle = (index) => 10 + (index + 0.5) * step;
    const shorten = (token) => (token.length > LABEL_CHARACTERS ? `${token.slice(0, LABEL_CHARACTERS - 1)}…` : token);
    this.strokes = tokens.map((_, from) => makeSvg("g", { class: "stroke-group" }, ...tokens.flatMap((_, to) => {
      const weight = matrix[from][to];
      if (weight < FAINTEST) return [];
      const [top, bottom] = [middle(from), middle(to)];
      const bend = (RIGHT - LEFT) / 2;
      return [makeSvg("path", {
        d: `M${LEFT} ${top}C${LEFT + bend} ${top} ${RIGHT - bend} ${bottom} ${RIGHT} ${bottom}`,
        "stroke-opacity": Math.min(1, weight / scale).toFixed(3), class: "stroke",
      })];
    })));
    const left = tokens.map((token, from) => makeSvg("g", { class: "line-token", mouseenter: () => this.hover(from), mouseleave: () => this.hover(null) },
      makeSvg("rect", { x: 0, y: middle(from) - step / 2, width: LEFT, height: step, fill: "transparent" }),
      makeSvg("text", { x: LEFT - 8, y: middle(from), "text-anchor": "end" }, shorten(token))));
    this.values = tokens.map((_, to) => makeSvg("text", { x: WIDTH - 2, y: middle(to), "text-anchor": "end", class: "line-value" }));
    const right = tokens.map((token, to) => makeSvg("text", { x: RIGHT + 8, y: middle(to) }, shorten(token)));
    this.matrix = matrix;
    this.labels = { left, right };
    this.svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${tokens.length * step + 20}`, class: step < 20 ? "lines-svg lines-small" : "lines-svg", "aria-hidden": "true" },
      ...this.strokes, ...left, ...right, ...this.values);
    this.place.setAttribute("aria-label", `${description}, as lines from the token that looks to the token it looks at`);
    this.place.replaceChildren(this.svg);
  }

  hover(from) {
    this.mark(from);
    this.onRow(from);
  }

  /** Shows one token's lines alone with their weights; null shows all. */
  mark(from) {
    this.svg?.classList.toggle("lines-focused", from !== null);
    this.strokes?.forEach((group, index) => group.classList.toggle("stroke-chosen", index === from));
    this.labels?.left.forEach((label, index) => label.classList.toggle("label-chosen", index === from));
    this.values?.forEach((value, to) => {
      const weight = from === null ? 0 : this.matrix[from][to];
      value.textContent = weight >= FAINTEST ? percent(weight, 0) : "";
      this.labels.right[to].classList.toggle("label-chosen", weight >= 0.1);
    });
  }
}
