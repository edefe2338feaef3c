// The order of the steps, and how they hang together: before the layers, one layer after another, after them.

import type { Stage, Trace } from "../../api/trace";

export type Part = "in" | number | "out"; // before the layers, of a layer, after them

export interface Step {
  part: Part;
  name: string;
}

export interface Placed extends Step {
  stage: Stage;
  inputs: Placed[];
}

/** The stages that were sent, each with those that it was made from. */
export function placed(trace: Trace): Placed[] {
  const found: Placed[] = [];
  let inside = false;
  for (const stage of trace.stages) {
    inside ||= stage.layer !== null;
    const part: Part = stage.layer ?? (inside ? "out" : "in");
    const inputs = stage.inputs
      .map((name) => found.findLast((one) => one.name === name))
      .filter((one): one is Placed => one !== undefined);
    found.push({ part, name: stage.name, stage, inputs });
  }
  return found;
}

/** Every step that is walked: of one layer, or of all. */
export function sequence(stages: readonly Placed[], layer: number, numLayers: number, all: boolean): Step[] {
  const names = stages.filter((one) => one.part === layer).map((one) => one.name);
  const layers = all ? Array.from({ length: numLayers }, (_, index) => index) : [layer];
  return [
    ...stages.filter((one) => one.part === "in"),
    ...layers.flatMap((part) => names.map((name) => ({ part, name }))),
    ...stages.filter((one) => one.part === "out"),
  ].map(({ part, name }) => ({ part, name }));
}

export function keyOf({ part, name }: Step): string {
  return `${part}.${name}`;
}

/** Stages that stand beside each other: those made from the same. */
export function rowsOf(stages: readonly Placed[]): Placed[][] {
  const rows: Placed[][] = [];
  for (const one of stages) {
    const last = rows.at(-1)?.[0];
    if (last && last.stage.inputs.join() === one.stage.inputs.join()) rows.at(-1)?.push(one);
    else rows.push([one]);
  }
  return rows;
}
