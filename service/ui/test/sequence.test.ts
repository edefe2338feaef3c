import assert from "node:assert/strict";
import { test } from "node:test";
import type { Stage, Trace } from "../src/api/trace";
import { keyOf, placed, rowsOf, sequence } from "../src/places/step/sequence";

function stage(name: string, layer: number | null, inputs: string[]): Stage {
  const summary = { min: 0, max: 0, mean: 0, std: 0 };
  return { name, layer, inputs, formula: "", shape: [1], summary, norms: null, values: [0] };
}

const STAGES = [
  stage("token", null, []),
  stage("position", null, []),
  stage("hidden", null, ["token", "position"]),
  stage("query", 1, ["hidden"]),
  stage("hidden", 1, ["query"]),
  stage("query", 2, ["hidden"]),
  stage("hidden", 2, ["query"]),
  stage("logits", null, ["hidden"]),
];
const FOUND = placed({ stages: STAGES } as Trace);

test("a stage is made from the nearest before it of that name", () => {
  const inputs = FOUND.map((one) => one.inputs.map(keyOf).join("+"));
  assert.deepEqual(inputs, ["", "", "in.token+in.position", "in.hidden", "1.query", "1.hidden", "2.query", "2.hidden"]);
});

test("the walk goes through one layer or through all", () => {
  const keys = (all: boolean): string[] => sequence(FOUND, 2, 3, all).map(keyOf);
  const [before, after] = [["in.token", "in.position", "in.hidden"], ["out.logits"]];
  assert.deepEqual(keys(false), [...before, "2.query", "2.hidden", ...after]);
  const layers = [0, 1, 2].flatMap((layer) => [`${layer}.query`, `${layer}.hidden`]);
  assert.deepEqual(keys(true), [...before, ...layers, ...after]);
});

test("stages made from the same stand beside each other", () => {
  const rows = rowsOf(FOUND.filter((one) => one.part === "in"));
  assert.deepEqual(
    rows.map((row) => row.length),
    [2, 1],
  );
});
