// One head as lines from the token that looks (left) to those it looks at (right), after BertViz' head view. On a canvas,
// since 512 tokens make a quarter of a million lines; those too faint to be seen are left out.

import { useEffect, useRef } from "preact/hooks";
import type { Head } from "../../api/attention";
import { shortened } from "../../base/format";
import { useStore } from "../../base/store";
import { colour, paint } from "../../base/theme";

interface LinesProps {
  head: Head;
  names: readonly string[];
  label: string;
  from: number | null; // the token whose lines alone are shown
  onFrom: (from: number | null) => void;
  onPainted: (milliseconds: number) => void;
}

const ROW = 24;
const SMALL_ROW = 13;
const FAINT = 0.02; // of the largest weight
const LABEL_WIDTH = 150;

export function Lines({ head, names, label, from, onFrom, onPainted }: LinesProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const colours = useStore(paint);
  const row = names.length > 60 ? SMALL_ROW : ROW;
  useEffect(() => {
    const place = canvas.current;
    if (!place) return;
    const draw = () => {
      const started = performance.now();
      drawLines(place, head, names, row, from);
      onPainted(performance.now() - started);
    };
    draw();
    const watch = new ResizeObserver(draw);
    watch.observe(place);
    return () => watch.disconnect();
  }, [head, names, row, from, colours]);
  const key = (event: KeyboardEvent) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (event.key === "Escape") onFrom(null);
    if (!step) return;
    event.preventDefault();
    onFrom(from === null ? 0 : Math.max(0, Math.min(names.length - 1, from + step)));
  };
  const point = (event: PointerEvent) => {
    const index = Math.floor(event.offsetY / row);
    if (index >= 0 && index < names.length && index !== from) onFrom(index);
  };
  return (
    <canvas
      ref={canvas}
      class="lines"
      role="img"
      tabIndex={0}
      aria-label={label}
      onPointerMove={point}
      onPointerLeave={() => onFrom(null)}
      onBlur={() => onFrom(null)}
      onKeyDown={key}
    />
  );
}

function drawLines(
  canvas: HTMLCanvasElement,
  head: Head,
  names: readonly string[],
  row: number,
  only: number | null,
): void {
  const context = canvas.getContext("2d");
  const width = canvas.clientWidth;
  if (!context || !width) return;
  const ratio = devicePixelRatio || 1;
  const height = row * names.length;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  const margin = Math.min(LABEL_WIDTH, width * 0.32);
  const most = head.largest || 1;
  context.strokeStyle = colour("accent");
  for (let from = 0; from < names.length; from += 1) {
    if (only !== null && from !== only) continue;
    for (let to = 0; to < names.length; to += 1) {
      const share = head.weight(from, to) / most;
      if (share < FAINT) continue;
      context.globalAlpha = only === null ? share * 0.85 : 0.1 + 0.9 * share;
      context.lineWidth = 0.6 + 2.6 * share;
      context.beginPath();
      context.moveTo(margin, (from + 0.5) * row);
      context.bezierCurveTo(
        width / 2,
        (from + 0.5) * row,
        width / 2,
        (to + 0.5) * row,
        width - margin,
        (to + 0.5) * row,
      );
      context.stroke();
    }
  }
  context.globalAlpha = 1;
  context.textBaseline = "middle";
  const size = Math.min(13, row - 2);
  names.forEach((name, index) => {
    const middle = (index + 0.5) * row;
    const looked = only === null ? 0 : head.weight(only, index) / most;
    const lit = index === only;
    context.font = `${lit ? 700 : 400} ${size}px ${getComputedStyle(canvas).fontFamily}`;
    context.fillStyle = colour(only === null || lit ? "ink" : "muted");
    context.textAlign = "right";
    context.fillText(shortened(name, 18), margin - 8, middle, margin - 10);
    context.fillStyle = colour(only === null || looked > 0.15 ? "ink" : "muted");
    context.font = `${looked > 0.5 ? 700 : 400} ${size}px ${getComputedStyle(canvas).fontFamily}`;
    context.textAlign = "left";
    context.fillText(shortened(name, 18), width - margin + 8, middle, margin - 10);
  });
}
