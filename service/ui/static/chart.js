// A small line chart in SVG: series of [x, y] points over one scale.
import { element, svg } from "/ui/dom.js";

const WIDTH = 420, HEIGHT = 210, LEFT = 44, BOTTOM = 26, TOP = 10, RIGHT = 10;

export function chart(title, series, maximumX, fixedY) {
  const points = series.flatMap((item) => item.points);
  if (!points.length) return element("div", { class: "fact" }, element("span", {}, `${title}: waiting for the first numbers`));
  const values = points.map((point) => point[1]);
  const [low, high] = fixedY ?? [0, Math.max(...values) * 1.1 || 1];
  const x = (value) => LEFT + (value / Math.max(1, maximumX)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - BOTTOM - TOP);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  for (let tick = 0; tick <= 4; tick += 1) {
    const value = low + ((high - low) * tick) / 4;
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "faint", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)),
    );
  }
  picture.append(
    svg("text", { class: "faint", x: LEFT, y: HEIGHT - 8 }, "step 0"),
    svg("text", { class: "faint", x: WIDTH - RIGHT, y: HEIGHT - 8, "text-anchor": "end" }, String(maximumX)),
  );
  for (const item of series) {
    const path = item.points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    picture.append(svg("polyline", { points: path, fill: "none", stroke: item.stroke, "stroke-width": 2, "stroke-linejoin": "round" }));
    if (item.dots) item.points.forEach(([step, value]) => picture.append(svg("circle", { cx: x(step), cy: y(value), r: 4, fill: item.stroke })));
  }
  const names = series.filter((item) => item.points.length).map((item) => {
    const name = element("span", {}, `● ${item.name} `);
    name.style.color = item.stroke;
    return name;
  });
  return element("figure", {}, element("figcaption", { class: "hint" }, `${title}  `, names), picture);
}
