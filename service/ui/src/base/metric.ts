// The figure that a model is judged by first: a share, the better the higher, or an error in a unit of its own, the better
// the lower.

import { figure, percent } from "./format";

export interface Metric {
  key: string;
  higher_is_better: boolean;
}

const ERRORS = ["loss", "mean_absolute_error", "perplexity"]; // of the figures that training follows
const FIRST = ["span_f1", "micro_f1", "perplexity", "accuracy", "mean_absolute_error"]; // what an evaluation begins with

export function metricOf(key: string): Metric {
  return { key, higher_is_better: !ERRORS.includes(key) };
}

/** Its value: a share as a percentage, an error in the unit of the data. */
export function amount(metric: Metric, value: number | null): string {
  if (value === null) return "–";
  return metric.higher_is_better ? percent(value) : figure(value);
}

/** Of all held-out figures of a run or model the one that it is judged by first. */
export function headlineOf(figures: Record<string, unknown> | null): { metric: Metric; value: number } | null {
  for (const key of FIRST) {
    const value = figures?.[key];
    if (typeof value === "number") return { metric: metricOf(key), value };
  }
  return null;
}
