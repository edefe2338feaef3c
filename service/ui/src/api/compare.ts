// How the attention of one text or model differs from that of another.

import type { Header, Options } from "./attention";
import { ask } from "./client";

export interface Change {
  layer: number;
  head: number | "all";
  looks: [number, number]; // places of the unit on the left and on the right
  looked_at: [number, number];
  left: number;
  right: number;
}

export interface Comparison {
  left: Header;
  right: Header;
  matched: [number, number][];
  moved: number[][]; // by layer and head: a share, or of method value_norm a length
  largest: Change[];
}

export interface Side {
  model: string;
  input: string;
}

export const compareAttention = (
  left: Side,
  right: Side,
  options: Options,
  signal: AbortSignal,
): Promise<Comparison> => {
  const { method, merge, special } = options;
  return ask("POST", "/v1/attention/compare", {
    body: { left, right, method, merge, special, truncate: true },
    signal,
  });
};
