// Which parts of a text speak for an answer, and whether that can be believed.

import type { Merge, Unit } from "./attention";
import { ask } from "./client";
import type { Score } from "./inference";

export const METHODS = [
  "decomposition",
  "integrated_gradients",
  "occlusion",
  "gradient_weighted",
  "gradient_x_input",
] as const;
export type ExplainMethod = (typeof METHODS)[number];
export type Verdict = "better than random" | "near random" | "worse than random";

export interface Faithfulness {
  answer: number;
  percents: number[];
  verdict: Verdict;
  comprehensiveness: Measured;
  sufficiency: Measured;
}

interface Measured {
  at: number[];
  aopc: number;
  random: { mean: number; deviation: number };
}

export interface Explanation {
  model: string;
  method: ExplainMethod;
  target: string;
  against: string | null;
  value: number;
  baseline: number; // that the scores start from
  rest: number | null; // value less baseline less all scores; null: this way does not add up
  hidden: number; // the sum of the scores that no unit shows
  prediction: Score[];
  units: (Unit & { score: number })[];
  truncated: boolean;
  faithfulness: Faithfulness | null;
}

export interface ExplainOptions {
  method: ExplainMethod;
  target: string | null;
  merge: Merge;
  special: "keep" | "hide";
}

export const explain = (
  model: string,
  input: string,
  options: ExplainOptions,
  signal?: AbortSignal,
): Promise<Explanation> => ask("POST", "/v1/explain", { body: { model, input, ...options, truncate: true }, signal });
