// How a heatmap lies on its canvas: labels around, a grid while cells are large, a frame around the chosen cell.

import { colour } from "../../base/theme";
import { shortened } from "../../base/format";

export interface Cell {
  from: number;
  to: number;
}

export interface Layout {
  margin: number;
  cell: number;
  fontSize: number;
  every: number; // of the names, one of so many is written
}

const MAX_CELL = 44;
const LABEL_CHARACTERS = 14;
const GRID_FROM = 9; // lines would hide cells smaller than this

export function layoutOf(canvas: HTMLCanvasElement, names: readonly string[]): Layout {
  const width = canvas.clientWidth;
  const context = canvas.getContext("2d");
  if (context) context.font = font(canvas, 12, false);
  const widest = Math.max(...names.map((name) => context?.measureText(shortened(name, LABEL_CHARACTERS)).width ?? 0));
  const margin = Math.min(Math.ceil(widest) + 10, Math.floor(width * 0.3));
  const cell = Math.min(MAX_CELL, (width - margin - 1) / names.length);
  const fontSize = Math.max(9, Math.min(12, Math.floor(cell)));
  return { margin, cell, fontSize, every: Math.ceil((fontSize + 1) / cell) };
}

export function drawHeatmap(
  canvas: HTMLCanvasElement,
  picture: HTMLCanvasElement,
  names: readonly string[],
  layout: Layout,
  chosen: Cell | null,
): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const { margin, cell } = layout;
  const side = cell * names.length;
  const height = Math.ceil(margin + side) + 1;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, margin, margin, side, side);
  if (cell >= GRID_FROM) drawGrid(context, names.length, layout);
  drawNames(canvas, context, names, layout, chosen);
  if (chosen) drawFrame(context, layout, chosen);
}

function drawGrid(context: CanvasRenderingContext2D, size: number, { margin, cell }: Layout): void {
  context.strokeStyle = colour("surface");
  context.lineWidth = 1;
  context.beginPath();
  for (let index = 0; index <= size; index += 1) {
    const at = margin + index * cell;
    context.moveTo(margin, at);
    context.lineTo(margin + size * cell, at);
    context.moveTo(at, margin);
    context.lineTo(at, margin + size * cell);
  }
  context.stroke();
}

function drawNames(
  canvas: HTMLCanvasElement,
  context: CanvasRenderingContext2D,
  names: readonly string[],
  { margin, cell, fontSize, every }: Layout,
  chosen: Cell | null,
): void {
  context.textBaseline = "middle";
  const shown = (index: number, picked: number | undefined): boolean =>
    index === picked ||
    (index % every === 0 && !(every > 1 && picked !== undefined && Math.abs(index - picked) < every));
  names.forEach((full, index) => {
    const name = shortened(full, LABEL_CHARACTERS);
    const middle = margin + (index + 0.5) * cell;
    if (shown(index, chosen?.from)) {
      style(canvas, context, fontSize, index === chosen?.from);
      context.textAlign = "right";
      context.fillText(name, margin - 6, middle, margin - 8);
    }
    if (!shown(index, chosen?.to)) return;
    style(canvas, context, fontSize, index === chosen?.to);
    context.save();
    context.translate(middle, margin - 6);
    const upright = Array.from(name).length === 1; // one Chinese character reads best as it stands
    if (upright) context.translate(0, -fontSize / 2);
    else context.rotate(-Math.PI / 2);
    context.textAlign = upright ? "center" : "left";
    context.fillText(name, 0, 0, margin - 8);
    context.restore();
  });
}

function drawFrame(context: CanvasRenderingContext2D, { margin, cell }: Layout, { from, to }: Cell): void {
  const grow = Math.max(0, (8 - cell) / 2); // a frame around a tiny cell stays visible
  for (const [name, lineWidth] of [
    ["surface", 4],
    ["ink", 2],
  ] as const) {
    context.strokeStyle = colour(name);
    context.lineWidth = lineWidth;
    context.strokeRect(margin + to * cell - grow, margin + from * cell - grow, cell + 2 * grow, cell + 2 * grow);
  }
}

function style(canvas: HTMLCanvasElement, context: CanvasRenderingContext2D, size: number, chosen: boolean): void {
  context.font = font(canvas, size, chosen);
  context.fillStyle = colour(chosen ? "ink" : "muted");
}

function font(canvas: HTMLCanvasElement, size: number, bold: boolean): string {
  return `${bold ? 700 : 400} ${size}px ${getComputedStyle(canvas).fontFamily}`;
}
