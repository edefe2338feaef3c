// Lines over steps or time, by uPlot: many points, a cursor, a legend that tells the value under it.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colour, paint } from "../base/theme";
import { useStore } from "../base/store";
import { figure, tick } from "../base/format";

export interface Line {
  name: string;
  colour: string; // name of a CSS variable
  points: readonly (readonly [number, number])[]; // by rising x
  dashed?: boolean;
  dots?: boolean;
}

interface ChartProps {
  lines: readonly Line[];
  xName: string;
  label: string;
  height?: number;
  time?: boolean;
  log?: boolean;
  range?: (least: number, most: number) => [number, number]; // of y; else what the points need
}

export function Chart({ lines, xName, label, height = 200, time = false, log = false, range }: ChartProps) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const colours = useStore(paint);
  const shape = JSON.stringify([
    lines.map((line) => [line.name, line.colour, line.dashed]),
    xName,
    height,
    log,
    colours,
  ]);
  useEffect(() => {
    const place = frame.current;
    if (!place) return;
    const made = new uPlot(options(lines, xName, place.clientWidth, height, time, log, range), aligned(lines), place);
    plot.current = made;
    const watch = new ResizeObserver(() => {
      if (place.clientWidth && place.clientWidth !== made.width) made.setSize({ width: place.clientWidth, height });
    });
    watch.observe(place);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(aligned(lines)), [lines]);
  return <div class="chart" ref={frame} role="img" aria-label={label} />;
}

function options(
  lines: readonly Line[],
  xName: string,
  width: number,
  height: number,
  time: boolean,
  log: boolean,
  range: ChartProps["range"],
): uPlot.Options {
  const axis: uPlot.Axis = {
    stroke: colour("muted"),
    font: '11px system-ui, "Noto Sans", sans-serif',
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1, size: 4 },
  };
  return {
    width,
    height,
    scales: {
      x: { time },
      y: {
        distr: log ? 3 : 1,
        ...(range
          ? { range: (_: uPlot, least: number | null, most: number | null) => range(least ?? 0, most ?? 1) }
          : {}),
      },
    },
    axes: [
      { ...axis, size: 30, ...(time ? { space: 90, values: (_: uPlot, ticks: number[]) => ticks.map(clock) } : {}) },
      { ...axis, size: 56, values: (_, ticks) => ticks.map((value) => (value === null ? "" : tick(value))) },
    ],
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    series: [
      { label: xName, ...(time ? { value: (_: uPlot, at: number | null) => (at === null ? "–" : clock(at)) } : {}) },
      ...lines.map((line) => ({
        label: line.name,
        stroke: colour(line.colour),
        width: 1.75,
        dash: line.dashed ? [5, 4] : [],
        spanGaps: true,
        points: { show: line.dots ?? false, size: 6 },
        value: (_: uPlot, value: number | null) => (value === null ? "–" : figure(value)),
      })),
    ],
  };
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/** All lines over one row of x values, with gaps where a line has none. */
function aligned(lines: readonly Line[]): uPlot.AlignedData {
  const places = [...new Set(lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
  const rows = lines.map((line) => {
    const known = new Map(line.points);
    return places.map((x) => known.get(x) ?? null);
  });
  return [places, ...rows];
}
