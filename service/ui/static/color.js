// One scale for every attention view: viridis, even in lightness and safe for colour-blind eyes.
const ANCHORS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

export function rgb(weight) {
  const place = Math.min(1, Math.max(0, weight)) * (ANCHORS.length - 1);
  const low = Math.min(ANCHORS.length - 2, Math.floor(place));
  return ANCHORS[low].map((value, channel) => Math.round(value + (ANCHORS[low + 1][channel] - value) * (place - low)));
}

export const color = (weight) => `rgb(${rgb(weight).join(",")})`;

// One pixel a weight; the style sheet scales the canvas up.
export function paint(canvas, rows) {
  canvas.width = rows[0].length;
  canvas.height = rows.length;
  const image = new ImageData(canvas.width, canvas.height);
  rows.flat().forEach((weight, index) => image.data.set([...rgb(weight), 255], index * 4));
  canvas.getContext("2d").putImageData(image, 0, 0);
}
