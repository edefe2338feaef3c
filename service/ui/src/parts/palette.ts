// Numbers as colours: one scale for shares, one with two sides for signed values; and a matrix as an image of them.

import type { Head } from "../api/attention";
import { rgb, type Rgb } from "../base/theme";

const LEVELS = 256;

/** Colours from nothing to most, packed for ImageData: [256]. */
export function ramp(from: string, to: string): Uint32Array {
  const [low, high] = [rgb(from), rgb(to)];
  return Uint32Array.from({ length: LEVELS }, (_, level) => packed(mixed(low, high, level / (LEVELS - 1))));
}

function mixed(low: Rgb, high: Rgb, share: number): Rgb {
  const part = (index: 0 | 1 | 2): number => Math.round(low[index] + (high[index] - low[index]) * share);
  return [part(0), part(1), part(2)];
}

function packed([red, green, blue]: Rgb): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Of a value from -1 to 1, as a CSS colour: orange below nothing, blue above. */
export function signed(share: number): string {
  const side = rgb(share < 0 ? "heat-minus" : "heat-high");
  return `rgb(${mixed(rgb("heat-low"), side, Math.min(1, Math.abs(share)) * 0.85).join(" ")})`;
}

/** Whether a text on that colour must take the page's background as its ink. */
export function strong(share: number): boolean {
  return Math.abs(share) > 0.55;
}

/** One pixel a weight. */
export function headImage(head: Head, most: number): HTMLCanvasElement {
  const colours = ramp("heat-low", "heat-high");
  return image(head.size, head.size, (row, column) => {
    const level = Math.round((head.weight(row, column) / most) * (LEVELS - 1));
    return colours[Math.min(LEVELS - 1, level)];
  });
}

/** A head in few pixels: each the largest of the weights it stands for. */
export function thumbnail(head: Head, side: number): HTMLCanvasElement {
  if (head.size <= side) return headImage(head, head.largest || 1);
  const colours = ramp("heat-low", "heat-high");
  const most = new Float32Array(side * side);
  for (let from = 0; from < head.size; from += 1) {
    const row = Math.floor((from * side) / head.size) * side;
    for (let to = 0; to < head.size; to += 1) {
      const place = row + Math.floor((to * side) / head.size);
      most[place] = Math.max(most[place], head.weight(from, to));
    }
  }
  const top = most.reduce((a, b) => Math.max(a, b), 1e-12);
  return image(side, side, (row, column) => colours[Math.round((most[row * side + column] / top) * (LEVELS - 1))]);
}

/** Signed numbers, a pixel each, coloured against the largest of them; null where there is none. */
export function signedImage(rows: readonly (readonly (number | null)[])[], most: number): HTMLCanvasElement {
  const [up, down] = [ramp("heat-low", "heat-high"), ramp("heat-low", "heat-minus")];
  const none = packed(rgb("surface"));
  return image(rows[0]?.length ?? 0, rows.length, (row, column) => {
    const value = rows[row][column];
    if (value === null || !Number.isFinite(value)) return none;
    const level = Math.min(LEVELS - 1, Math.round((Math.abs(value) / (most || 1)) * (LEVELS - 1)));
    return value < 0 ? down[level] : up[level];
  });
}

function image(width: number, height: number, at: (row: number, column: number) => number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  const context = canvas.getContext("2d");
  if (!context || !width || !height) return canvas;
  const data = new ImageData(width, height);
  const pixels = new Uint32Array(data.data.buffer);
  for (let row = 0; row < height; row += 1)
    for (let column = 0; column < width; column += 1) pixels[row * width + column] = at(row, column);
  context.putImageData(data, 0, 0);
  return canvas;
}
