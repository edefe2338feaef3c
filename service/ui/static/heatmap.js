// One head as a heatmap on a canvas: row = the token that looks, column = the token it looks at. A canvas, because
// 128 tokens make 16,384 cells, more than an SVG redraws smoothly. Pointer and arrow keys choose a cell.

import { make } from "./dom.js";
import { matrixImage, onThemeChange, themeColor } from "./palette.js";

const MAX_CELL = 52;
const LABEL_CHARACTERS = 12;

export class Heatmap {
  /** onCell gets (from, to), or (null, null) when the pointer leaves. */
  constructor(onCell) {
    this.onCell = onCell;
    this.canvas = make("canvas", {
      class: "heatmap", role: "img", tabindex: "0",
      pointermove: (event) => this.choose(...this.cellAt(event)),
      pointerdown: (event) => this.choose(...this.cellAt(event)),
      pointerleave: () => this.choose(null, null),
      blur: () => this.choose(null, null),
      keydown: (event) => this.moveByKey(event),
    });
    this.cell = { from: null, to: null };
    this.tokens = [];
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    onThemeChange(() => this.draw());
    document.fonts.addEventListener("loadingdone", () => this.draw()); // a canvas is not redrawn by itself
  }

  show(tokens, matrix, scale, description) {
    this.tokens = tokens;
    this.image = matrixImage(matrix, scale);
    this.cell = { from: null, to: null };
    this.canvas.setAttribute("aria-label", `${description}. Use the arrow keys to read single weights.`);
    this.draw();
  }

  measure(context, width) {
    const labels = this.tokens.map((token) => (token.length > LABEL_CHARACTERS ? `${token.slice(0, LABEL_CHARACTERS - 1)}…` : token));
    context.font = `12px ${getComputedStyle(this.canvas).fontFamily}`;
    const widest = Math.max(...labels.map((label) => context.measureText(label).width));
    const margin = Math.min(Math.ceil(widest) + 10, Math.floor(width * 0.3));
    const cell = Math.min(MAX_CELL, (width - margin - 1) / labels.length);
    const fontSize = Math.max(9, Math.min(12, Math.floor(cell)));
    return { labels, margin, cell, fontSize, every: Math.ceil((fontSize + 1) / cell) };
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width || !this.tokens.length) return;
    const context = this.canvas.getContext("2d");
    const layout = this.measure(context, width);
    this.layout = layout;
    const height = Math.ceil(layout.margin + layout.cell * this.tokens.length) + 1;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    context.scale(ratio, ratio);
    const side = layout.cell * this.tokens.length;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image, layout.margin, layout.margin, side, side);
    this.drawGrid(context, side);
    this.drawLabels(context);
    this.drawCell(context);
  }

  drawGrid(context, side) {
    const { margin, cell } = this.layout;
    if (cell < 9) return; // lines would hide cells this small
    context.strokeStyle = themeColor("surface");
    context.lineWidth = 1;
    context.beginPath();
    for (let index = 0; index <= this.tokens.length; index += 1) {
      const at = margin + index * cell;
      context.moveTo(margin, at);
      context.lineTo(margin + side, at);
      context.moveTo(at, margin);
      context.lineTo(at, margin + side);
    }
    context.stroke();
  }

  drawLabels(context) {
    const { labels, margin, cell, fontSize, every } = this.layout;
    context.textBaseline = "middle";
    labels.forEach((label, index) => {
      const chosenRow = index === this.cell.from;
      const chosenColumn = index === this.cell.to;
      const middle = margin + (index + 0.5) * cell;
      if (chosenRow || (index % every === 0 && !this.isCloseTo(index, this.cell.from, every))) {
        this.styleLabel(context, chosenRow, fontSize);
        context.textAlign = "right";
        context.fillText(label, margin - 6, middle, margin - 8);
      }
      if (chosenColumn || (index % every === 0 && !this.isCloseTo(index, this.cell.to, every))) {
        this.styleLabel(context, chosenColumn, fontSize);
        context.save();
        context.translate(middle, margin - 6);
        const upright = Array.from(label).length === 1; // one Chinese character reads best as it stands
        if (upright) context.translate(0, -fontSize / 2);
        else context.rotate(-Math.PI / 2);
        context.textAlign = upright ? "center" : "left";
        context.fillText(label, 0, 0, margin - 8);
        context.restore();
      }
    });
  }

  isCloseTo(index, chosen, every) {
    return every > 1 && chosen !== null && Math.abs(index - chosen) < every;
  }

  styleLabel(context, chosen, fontSize) {
    context.font = `${chosen ? "700" : "400"} ${fontSize}px ${getComputedStyle(this.canvas).fontFamily}`;
    context.fillStyle = themeColor(chosen ? "ink" : "muted");
  }

  drawCell(context) {
    if (this.cell.from === null) return;
    const { margin, cell } = this.layout;
    const [left, top] = [margin + this.cell.to * cell, margin + this.cell.from * cell];
    const grow = Math.max(0, (8 - cell) / 2); // a frame around a tiny cell stays visible
    for (const [color, lineWidth] of [[themeColor("frame-outer"), 4], [themeColor("frame-inner"), 2]]) {
      context.strokeStyle = color;
      context.lineWidth = lineWidth;
      context.strokeRect(left - grow, top - grow, cell + 2 * grow, cell + 2 * grow);
    }
  }

  cellAt(event) {
    if (!this.layout) return [null, null];
    const { margin, cell } = this.layout;
    const [to, from] = [event.offsetX, event.offsetY].map((at) => Math.floor((at - margin) / cell));
    const inside = [from, to].every((index) => index >= 0 && index < this.tokens.length);
    return inside ? [from, to] : [null, null];
  }

  choose(from, to) {
    if (from === this.cell.from && to === this.cell.to) return;
    this.cell = { from, to };
    this.draw();
    this.onCell(from, to);
  }

  moveByKey(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!moves[event.key] || !this.tokens.length) return;
    event.preventDefault();
    const clamp = (index) => Math.max(0, Math.min(this.tokens.length - 1, index));
    const { from, to } = this.cell;
    if (from === null) this.choose(0, 0);
    else this.choose(clamp(from + moves[event.key][0]), clamp(to + moves[event.key][1]));
  }
}
