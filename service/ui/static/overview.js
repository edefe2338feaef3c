// All layers and heads at a glance: a grid of thumbnails, each a button that picks its head. Each thumbnail has its
// own scale, because at this size only the pattern can be compared, not the values.

import { make, roving } from "./dom.js";
import { largest, matrixImage } from "./palette.js";

const MOST_PIXELS = 32; // about what a thumbnail has room for

export class Overview {
  constructor(onPick) {
    this.onPick = onPick;
    this.place = make("div", { class: "overview", role: "group", "aria-label": "All layers and heads" });
    this.buttons = new Map();
  }

  show(attention) {
    this.buttons.clear();
    const header = make("div", { class: "overview-row" }, make("span", { class: "overview-corner" }, "layer \\ head"),
      ...attention.heads.map((head) => make("span", { class: "overview-head", "aria-hidden": "true" }, String(head))));
    const rows = attention.layers.map((layer, row) => make("div", { class: "overview-row" },
      make("span", { class: "overview-layer", "aria-hidden": "true" }, String(layer)),
      ...attention.heads.map((head, column) => this.thumbnail(attention.weights[row][column], layer, head))));
    const grid = [header, ...rows];
    for (const line of grid) line.style.gridTemplateColumns = `2.4rem repeat(${attention.heads.length}, minmax(0, 1fr))`;
    this.place.replaceChildren(...grid);
    roving([...this.buttons.values()], attention.heads.length);
  }

  thumbnail(matrix, layer, head) {
    const image = matrixImage(pooled(matrix), largest(matrix));
    image.className = "thumbnail";
    const button = make("button", {
      type: "button", class: "thumbnail-button", title: `layer ${layer}, head ${head}`,
      "aria-label": `Layer ${layer}, head ${head}`, click: () => this.onPick(layer, head),
    }, image);
    this.buttons.set(`${layer}.${head}`, button);
    return button;
  }

  mark(layer, head) {
    for (const [name, button] of this.buttons) {
      const chosen = name === `${layer}.${head}`;
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
  }
}

/** A large matrix made small: each block keeps its largest weight, so that a thin diagonal stays visible. */
function pooled(matrix) {
  const block = Math.ceil(matrix.length / MOST_PIXELS);
  if (block === 1) return matrix;
  const size = Math.ceil(matrix.length / block);
  const small = Array.from({ length: size }, () => new Array(size).fill(0));
  matrix.forEach((row, from) => row.forEach((weight, to) => {
    const target = small[Math.floor(from / block)];
    const column = Math.floor(to / block);
    target[column] = Math.max(target[column], weight);
  }));
  return small;
}
