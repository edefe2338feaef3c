// The learning curves in a job's events. A resumed job repeats steps; the newest report counts.

import type { JobEvent } from "../../api/jobs";
import type { Line } from "../../parts/chart";

type Points = [number, number][];

export function curve(events: readonly JobEvent[], name: string): Points {
  const byStep = new Map<number, number>();
  for (const { type, data } of events) {
    const value = data[name];
    if (type === "metrics" && typeof value === "number" && Number.isFinite(value)) byStep.set(data.step, value);
  }
  return [...byStep].sort(([a], [b]) => a - b);
}

/** Held-out figures but the loss, the commonest first. */
export function figureNames(events: readonly JobEvent[]): string[] {
  const names = new Set(events.flatMap((event) => Object.keys(event.data)).filter((name) => name.startsWith("valid_")));
  names.delete("valid_loss");
  return [...names];
}

export function readable(name: string): string {
  return name.replace(/^valid_/, "").replaceAll("_", " ");
}

export const COLOURS = ["accent", "second", "third", "fourth", "bad", "good"] as const;

export function line(name: string, points: Points, index: number, extra: Partial<Line> = {}): Line {
  return { name, points, colour: COLOURS[index % COLOURS.length], dots: points.length < 40, ...extra };
}
