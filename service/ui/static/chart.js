// A small SVG line chart: several series over one horizontal axis, exact values under the pointer. Series differ in
// colour and in mark (line, dot, square), so that no reading depends on colour alone.

import { make, makeSvg } from "./dom.js";

const MARGIN = { top: 10, right: 14, bottom: 34, left: 46 };

/** series: [{name, points: [{x, y}], mark: "line" | "dot" | "square", color: 1 | 2 | 3}]; yRange fixes the axis. */
export function lineChart({ series, xMax, xName, height = 240, width = 640, yRange = null, format = (y) => y.toFixed(3), formatTick = (y) => y.toFixed(2), label }) {
  const [low, high] = yRange ?? rangeOf(series);
  const toX = (x) => MARGIN.left + (x / Math.max(1, xMax)) * (width - MARGIN.left - MARGIN.right);
  const toY = (y) => height - MARGIN.bottom - ((y - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart-svg", role: "img", "aria-label": label });
  for (const tick of ticks(low, high, Math.max(2, Math.round(height / 55)))) {
    svg.append(makeSvg("line", { class: "chart-grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: toY(tick), y2: toY(tick) }),
      makeSvg("text", { class: "chart-tick", x: MARGIN.left - 8, y: toY(tick) + 4, "text-anchor": "end" }, formatTick(tick)));
  }
  for (const tick of ticks(0, xMax, width < 480 ? 4 : 7)) {
    svg.append(makeSvg("text", { class: "chart-tick", x: toX(tick), y: height - MARGIN.bottom + 18, "text-anchor": "middle" }, String(tick)));
  }
  svg.append(makeSvg("text", { class: "chart-tick", x: width - MARGIN.right, y: height - 3, "text-anchor": "end" }, xName));
  for (const one of series) svg.append(...drawSeries(one, toX, toY));
  const readout = make("span", { class: "chart-readout" });
  addPointer(svg, { series, toX, toY, width, height, format, readout, xName });
  const legend = make("div", { class: "chart-legend" }, ...series.map(legendEntry), readout);
  return make("div", { class: "chart" }, legend, svg);
}

/** The loss curve without axes, for a list. */
export function sparkline(curves, width = 120, height = 34) {
  const series = [
    { points: curves.trainLoss, mark: "line", color: 1 },
    { points: curves.validLoss, mark: "dot", color: 2 },
  ];
  const [low, high] = rangeOf(series);
  const toX = (x) => 3 + (x / Math.max(1, curves.total)) * (width - 6);
  const toY = (y) => height - 3 - ((y - low) / (high - low)) * (height - 6);
  return makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, class: "sparkline", "aria-hidden": "true" },
    ...series.flatMap((one) => drawSeries(one, toX, toY, 2)));
}

function drawSeries({ points, mark, color }, toX, toY, radius = 4) {
  const drawn = [];
  const path = points.map(({ x, y }, index) => `${index ? "L" : "M"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("");
  if (points.length) drawn.push(makeSvg("path", { d: path, class: `series series-${color} series-${mark}` }));
  if (mark === "line" && points.length > 1) return drawn; // one point alone makes no line
  return drawn.concat(points.map(({ x, y }) => shape(mark, toX(x), toY(y), radius, color)));
}

function shape(mark, x, y, radius, color) {
  if (mark !== "square") return makeSvg("circle", { cx: x, cy: y, r: radius, class: `mark mark-${color}` });
  return makeSvg("rect", { x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius, class: `mark mark-${color}` });
}

function legendEntry({ name, mark, color }) {
  const symbol = makeSvg("svg", { viewBox: "0 0 22 12", width: 22, height: 12, "aria-hidden": "true" },
    makeSvg("path", { d: "M1 6H21", class: `series series-${color} series-${mark}` }), mark === "line" ? null : shape(mark, 11, 6, 4, color));
  return make("span", { class: "chart-legend-entry" }, symbol, name);
}

function addPointer(svg, { series, toX, toY, width, height, format, readout, xName }) {
  const rule = makeSvg("line", { class: "chart-rule", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
  const steps = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  svg.append(rule);
  svg.addEventListener("pointermove", (event) => {
    if (!steps.length) return;
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    const step = steps.reduce((best, candidate) => (Math.abs(toX(candidate) - at) < Math.abs(toX(best) - at) ? candidate : best));
    rule.setAttribute("x1", toX(step));
    rule.setAttribute("x2", toX(step));
    rule.setAttribute("visibility", "visible");
    const values = series.flatMap(({ name, points }) => points.filter(({ x }) => x === step).map(({ y }) => `${name} ${format(y)}`));
    readout.textContent = `${xName} ${step}: ${values.join(", ")}`;
  });
  svg.addEventListener("pointerleave", () => {
    rule.setAttribute("visibility", "hidden");
    readout.textContent = "";
  });
}

function rangeOf(series) {
  const values = series.flatMap(({ points }) => points.map(({ y }) => y));
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max((high - low) * 0.08, 0.05);
  return [Math.max(0, low - room), high + room];
}

/** Round numbers inside a range, about `wanted` of them. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - first + 1) }, (_, index) => Number(((first + index) * step).toFixed(10)));
}
