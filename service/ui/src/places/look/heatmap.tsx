// One head as a heatmap on a canvas: row = what looks, column = what it looks at. Pointer and arrow keys choose a cell.

import { useCallback, useEffect, useRef } from "preact/hooks";
import type { Head } from "../../api/attention";
import { useStore } from "../../base/store";
import { paint } from "../../base/theme";
import { headImage } from "../../parts/palette";
import { drawHeatmap, layoutOf, type Cell, type Layout } from "./heatmap_drawing";

interface HeatmapProps {
  head: Head;
  names: readonly string[];
  most: number;
  label: string;
  cell: Cell | null;
  onCell: (cell: Cell | null) => void;
  onPainted: (milliseconds: number) => void;
}

const MOVES: Record<string, Cell> = {
  ArrowUp: { from: -1, to: 0 },
  ArrowDown: { from: 1, to: 0 },
  ArrowLeft: { from: 0, to: -1 },
  ArrowRight: { from: 0, to: 1 },
};

export function Heatmap({ head, names, most, label, cell, onCell, onPainted }: HeatmapProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const layout = useRef<Layout | null>(null);
  const picture = useRef<HTMLCanvasElement | null>(null);
  const colours = useStore(paint);
  const draw = useCallback(() => {
    if (!canvas.current?.clientWidth || !picture.current) return;
    layout.current = layoutOf(canvas.current, names);
    drawHeatmap(canvas.current, picture.current, names, layout.current, cell);
  }, [names, cell]);
  useEffect(() => {
    const started = performance.now();
    picture.current = headImage(head, most);
    draw();
    onPainted(performance.now() - started);
  }, [head, most, names, colours]);
  useEffect(draw, [draw]);
  useEffect(() => {
    if (!canvas.current) return;
    const watch = new ResizeObserver(draw);
    watch.observe(canvas.current);
    return () => watch.disconnect();
  }, [draw]);
  const point = (event: PointerEvent) => {
    const found = layout.current;
    if (!found) return;
    const [to, from] = [event.offsetX, event.offsetY].map((at) => Math.floor((at - found.margin) / found.cell));
    const inside = [from, to].every((index) => index >= 0 && index < names.length);
    if (!inside) onCell(null);
    else if (from !== cell?.from || to !== cell.to) onCell({ from, to });
  };
  const key = (event: KeyboardEvent) => {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const clamp = (index: number): number => Math.max(0, Math.min(names.length - 1, index));
    onCell(cell ? { from: clamp(cell.from + move.from), to: clamp(cell.to + move.to) } : { from: 0, to: 0 });
  };
  return (
    <canvas
      ref={canvas}
      class="heatmap"
      role="img"
      tabIndex={0}
      aria-label={label}
      onPointerMove={point}
      onPointerDown={point}
      onPointerLeave={() => onCell(null)}
      onBlur={() => onCell(null)}
      onKeyDown={key}
    />
  );
}
