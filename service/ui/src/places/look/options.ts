// What is chosen on this place, as its address has it.

import type { Merge, Method, Special } from "../../api/attention";
import { METHODS, type ExplainMethod } from "../../api/explain";

export const VIEWS = ["heatmap", "lines", "grid"] as const;
export const KINDS: readonly Method[] = ["raw", "rollout", "value_norm"];
export const MERGES: readonly Merge[] = ["token", "word", "character"];
export const SPECIALS: readonly Special[] = ["keep", "hide", "renormalise"];
export type View = (typeof VIEWS)[number];

export interface LookOptions {
  layer: number;
  head: number;
  view: View;
  method: Method;
  merge: Merge;
  special: Special;
  explain: ExplainMethod;
  target: string | null;
}

export function optionsOf(query: URLSearchParams): LookOptions {
  const whole = (name: string): number => Math.max(0, Math.trunc(Number(query.get(name)) || 0));
  const oneOf = <T extends string>(name: string, options: readonly T[]): T =>
    options.find((option) => option === query.get(name)) ?? options[0];
  return {
    layer: whole("layer"),
    head: whole("head"),
    view: oneOf("view", VIEWS),
    method: oneOf("method", KINDS),
    merge: oneOf("merge", MERGES),
    special: oneOf("special", SPECIALS),
    explain: oneOf("explain", METHODS),
    target: query.get("target"),
  };
}
