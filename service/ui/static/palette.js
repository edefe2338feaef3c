// Colours that scripts need. Viridis has even steps in lightness and is safe for colour-blind eyes; these are the
// anchors the server's PNGs use, so that the page and a download look alike.

const ANCHORS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
  [170, 220, 50], [253, 231, 37],
];

/** 256 colours as [red, green, blue], for weights 0 to 1. */
export const VIRIDIS = Array.from({ length: 256 }, (_, level) => {
  const position = (level / 255) * (ANCHORS.length - 1);
  const low = Math.min(Math.floor(position), ANCHORS.length - 2);
  return ANCHORS[low].map((value, channel) => Math.round(value + (ANCHORS[low + 1][channel] - value) * (position - low)));
});

export function viridis(weight) {
  return VIRIDIS[Math.max(0, Math.min(255, Math.round(weight * 255)))];
}

/** A colour of the style sheet, for canvases, which can't read CSS variables themselves. */
export function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Calls back when the browser changes between light and dark. */
export function onThemeChange(callback) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
}

/** One matrix of weights as pixels, one pixel a cell; weights at `scale` get the brightest colour. */
export function matrixImage(matrix, scale) {
  const size = matrix.length;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  matrix.forEach((row, from) => row.forEach((weight, to) => {
    image.data.set([...viridis(weight / scale), 255], (from * size + to) * 4);
  }));
  context.putImageData(image, 0, 0);
  return canvas;
}

export function largest(matrix) {
  return matrix.reduce((high, row) => row.reduce((best, weight) => Math.max(best, weight), high), 0.0001);
}
