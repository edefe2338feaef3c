// Every step of one forward pass, with its numbers.

import type { Unit } from "./attention";
import { ask } from "./client";

export interface Stage {
  name: string;
  layer: number | null;
  inputs: string[];
  formula: string;
  shape: number[];
  summary: { min: number | null; max: number | null; mean: number | null; std: number | null };
  norms: number[] | null;
  values: Values | null;
}

type Row = (number | null)[]; // null: a score that a causal model hides
export type Values = Row | Row[] | Row[][];

export interface Guess {
  layer: number;
  tokens: { text: string; id: number; probability: number }[][];
}

export interface Trace {
  model: string;
  tokens: string[];
  ids: number[];
  special: boolean[];
  units: Unit[];
  config: {
    num_layers: number;
    num_heads: number;
    width: number;
    head_width: number;
    feed_forward_width: number;
    vocab_size: number;
    task: string;
    pooling: string;
    norm_first: boolean;
    causal: boolean;
  };
  labels: string[];
  stages: Stage[];
  guesses: Guess[];
  truncated: boolean;
}

/** Of a language model: what it would say at each place after each layer. */
export const guesses = async (model: string, input: string, signal?: AbortSignal): Promise<Guess[]> => {
  const body = { model, input, layers: "all", stages: ["token"], columns: 0, truncate: true };
  return (await ask<Trace>("POST", "/v1/trace", { body, signal })).guesses;
};

export const trace = (
  model: string,
  input: string,
  layers: string,
  columns: number,
  signal?: AbortSignal,
): Promise<Trace> => ask("POST", "/v1/trace", { body: { model, input, layers, columns, truncate: true }, signal });
