// Attention of one text: a labelled heatmap, the same head as lines, and thumbnails of every layer and head.
import { color, paint } from "/ui/color.js";
import { element, svg } from "/ui/dom.js";

const shorten = (token) => (token.length > 12 ? `${token.slice(0, 11)}…` : token);

export function heatmap(rows, tokens, onHover) {
  const cell = Math.max(14, Math.min(34, Math.floor(560 / tokens.length)));
  const margin = 14 + 7.2 * Math.max(...tokens.map((token) => shorten(token).length));
  const side = cell * tokens.length;
  const size = margin + side + 4;
  const picture = svg("svg", { viewBox: `0 0 ${size} ${size}`, width: size, role: "img", "aria-label": "Attention heatmap" });
  tokens.forEach((token, index) => {
    const middle = margin + index * cell + cell / 2;
    picture.append(
      svg("text", { x: margin - 7, y: middle + 4, "text-anchor": "end" }, shorten(token)),
      svg("text", { x: middle + 4, y: margin - 7, transform: `rotate(-90 ${middle + 4} ${margin - 7})` }, shorten(token)),
    );
  });
  rows.forEach((row, from) => row.forEach((weight, to) => picture.append(svg("rect", {
    x: margin + to * cell, y: margin + from * cell, width: cell - 1, height: cell - 1, fill: color(weight),
    onmouseenter: () => onHover(from, to),
  }))));
  return element("div", { class: "scroll" }, picture);
}

export function lines(rows, tokens, chosen) {
  const pitch = 24;
  const height = tokens.length * pitch + 10;
  const picture = svg("svg", { viewBox: `0 0 380 ${height}`, width: 380, role: "img", "aria-label": "Attention as lines" });
  rows.forEach((row, from) => row.forEach((weight, to) => {
    if (weight < 0.02 || (chosen !== null && chosen !== from)) return;
    picture.append(svg("line", {
      x1: 118, y1: from * pitch + 16, x2: 262, y2: to * pitch + 16,
      stroke: "var(--accent)", "stroke-width": 1 + 4 * weight, "stroke-opacity": Math.min(1, 0.08 + weight),
    }));
  }));
  tokens.forEach((token, index) => picture.append(
    svg("text", { x: 110, y: index * pitch + 20, "text-anchor": "end" }, shorten(token)),
    svg("text", { x: 270, y: index * pitch + 20 }, shorten(token)),
  ));
  return picture;
}

export function overview(answer, layer, head, onPick) {
  const grid = element("div", { class: "heads" });
  grid.style.gridTemplateColumns = `auto repeat(${answer.heads.length}, auto)`;
  grid.append(element("span"), ...answer.heads.map((number) => element("span", {}, `head ${number}`)));
  answer.weights.forEach((heads, row) => {
    grid.append(element("span", {}, `layer ${row}`));
    heads.forEach((rows, column) => {
      const canvas = element("canvas");
      paint(canvas, rows);
      const on = row === layer && column === head ? "on" : "";
      grid.append(element("button", { class: on, "aria-label": `layer ${row}, head ${column}`, onclick: () => onPick(row, column) }, canvas));
    });
  });
  return element("div", { class: "scroll" }, grid);
}

export function legend() {
  const canvas = element("canvas");
  paint(canvas, [Array.from({ length: 180 }, (_, index) => index / 179)]);
  return element("div", { class: "legend" }, "0", canvas, "1 attention weight; each row sums to 1");
}
