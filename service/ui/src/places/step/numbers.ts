// The numbers of a stage as a matrix with names, for one head where it has heads; and the arithmetic behind one of them.

import type { Trace } from "../../api/trace";
import { figure } from "../../base/format";
import type { Placed } from "./sequence";

export interface Matrix {
  rows: (number | null)[][];
  rowNames: string[];
  columnNames: string[] | null; // null: numbers of a vector
  whole: number; // numbers of a row there are
  most: number; // the largest size, for the colours
}

export function numHeads({ stage }: Placed): number {
  return stage.shape.length === 3 ? stage.shape[0] : 0;
}

export function matrixOf({ stage, name }: Placed, head: number, trace: Trace): Matrix | null {
  const { values, shape } = stage;
  if (!values) return null;
  let rows: (number | null)[][];
  if (shape.length === 3) rows = (values as number[][][])[Math.min(head, shape[0] - 1)];
  else if (shape.length === 2) rows = values as number[][];
  else rows = [values as number[]];
  const ofLabels = name === "logits" || name === "label_probabilities";
  const square = name === "scores" || name === "probabilities";
  const single = shape.length === 1;
  const shown = rows[0]?.length ?? 0;
  const known = rows.flat().filter((value): value is number => value !== null && Number.isFinite(value));
  return {
    rows,
    rowNames: single ? [""] : trace.tokens,
    columnNames: square ? trace.tokens : ofLabels ? labelsOf(trace, shape.at(-1) ?? 0).slice(0, shown) : null,
    whole: shape.at(-1) ?? 0,
    most: known.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9),
  };
}

function labelsOf(trace: Trace, count: number): string[] {
  return trace.labels.length === count ? trace.labels : Array.from({ length: count }, (_, index) => String(index));
}

/** How one number came about, where the numbers shown suffice to tell. */
export function arithmetic(at: Placed, head: number, trace: Trace, row: number, column: number): string | null {
  const result = matrixOf(at, head, trace)?.rows[row]?.[column];
  const inputs = at.inputs.map((input) => matrixOf(input, head, trace));
  const parts = inputs.map((input) => input?.rows[row]);
  if (result === null || result === undefined || parts.some((part) => !part)) return null;
  const operands = parts.map((part) => part?.[column] ?? null);
  if (at.stage.formula === "sum" || at.stage.formula === "x + y")
    return `${operands.map((value) => figure(value ?? NaN)).join(" + ")} = ${figure(result)}`;
  if (at.stage.formula === "softmax") {
    if (parts[0]?.length !== inputs[0]?.whole) return null; // of a row that was cut, the sum is not known
    const scores = (parts[0] ?? []).map((value) => value ?? -Infinity);
    const most = Math.max(...scores);
    const total = scores.reduce((sum, score) => sum + Math.exp(score - most), 0);
    const share = Math.exp((scores[column] ?? -Infinity) - most) / total;
    return `exp(${figure(scores[column])}) / Σ exp = ${figure(share)}`;
  }
  if (at.name === "activated") return `f(${figure(operands[0] ?? NaN)}) = ${figure(result)}`;
  return null;
}
