// Numbers as colours: one scale for shares, one with two sides for signed values; and a matrix as an image of them.

import type { Head } from "../api/attention";
import { colour, rgb, type Rgb } from "../base/theme";

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

const READABLE = 4.6; // contrast of text, a little above what WCAG asks
const TURN = 0.6; // from this share on the text takes the surface's colour

/** Background and text for a value from -1 to 1: orange below nothing, blue above. Tones on which neither ink nor surface
    could be read are left out. */
export function toned(share: number): { backgroundColor: string; color: string } {
  const side = share < 0 ? "heat-minus" : "heat-high";
  const [low, high] = [rgb("heat-low"), rgb(side)];
  const size = Math.min(1, Math.abs(share));
  const light = size < TURN;
  const edge = light ? lastReadable(low, high, rgb("ink")) : firstReadable(low, high, rgb("surface"));
  const mix = light ? (size / TURN) * edge : edge + ((size - TURN) / (1 - TURN)) * (1 - edge);
  return { backgroundColor: `rgb(${mixed(low, high, mix).join(" ")})`, color: colour(light ? "ink" : "surface") };
}

const MIXES = Array.from({ length: 101 }, (_, percent) => percent / 100);

function lastReadable(low: Rgb, high: Rgb, text: Rgb): number {
  return MIXES.findLast((mix) => contrast(mixed(low, high, mix), text) >= READABLE) ?? 0;
}

function firstReadable(low: Rgb, high: Rgb, text: Rgb): number {
  return MIXES.find((mix) => contrast(mixed(low, high, mix), text) >= READABLE) ?? 1;
}

function contrast(one: Rgb, other: Rgb): number {
  const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
}

function luminance(of: Rgb): number {
  const [red, green, blue] = of.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
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
