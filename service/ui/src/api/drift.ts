// The same texts through one model after another: how vectors and attention move.

import { ask } from "./client";

export interface Frame {
  model: string;
  step: number | null;
  points: [number, number][];
  moved: number;
  cosines: number[];
  predictions: (string | null)[];
  attention: { tokens: string[]; layer: number; weights: number[][] };
}

export interface Drift {
  input: string[];
  shown: number;
  frames: Frame[];
}

/** Of all models of a job, or of one model by itself. */
export const drift = (of: { job: string } | { model: string }, input: string[], signal: AbortSignal): Promise<Drift> =>
  ask("POST", "/v1/drift", {
    body: { ...("job" in of ? { job: of.job } : { models: [of.model, of.model] }), input, truncate: true },
    signal,
  });
