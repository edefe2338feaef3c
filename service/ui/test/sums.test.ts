import "./browser";
import assert from "node:assert/strict";
import { test } from "node:test";
import { METHODS } from "../src/api/explain";
import { sumOf } from "../src/places/look/sums";
import { lookWords } from "../src/words/look";

const adding = { value: -3.086, baseline: 0, hidden: 0, rest: 1e-7 };

test("only a decomposition adds up to the value, integrated gradients to its difference from a baseline", () => {
  assert.equal(
    sumOf({ ...adding, method: "decomposition" }, lookWords.en),
    "The scores add up to the value explained.",
  );
  const integrated = { ...adding, method: "integrated_gradients", baseline: -3.3 } as const;
  assert.match(sumOf(integrated, lookWords.en), /the difference between the value explained and −3\.30, /);
  assert.match(sumOf(integrated, lookWords.zh), /被解释的值与 −3\.30 之差/);
});

test("what hidden tokens hold and what the steps of a path miss is told", () => {
  const hidden = { ...adding, method: "decomposition", hidden: -1.25 } as const;
  assert.match(sumOf(hidden, lookWords.en), /hidden hold −1\.25 of it\.$/);
  const coarse = { ...adding, method: "integrated_gradients", baseline: -3.3, rest: 0.02 } as const;
  assert.match(sumOf(coarse, lookWords.en), /misses 0\.0200 of it\.$/);
});

test("no other way claims a sum", () => {
  for (const method of METHODS.filter((one) => one !== "decomposition" && one !== "integrated_gradients"))
    for (const words of [lookWords.en, lookWords.zh])
      assert.match(
        sumOf({ ...adding, method, hidden: 1, rest: null }, words),
        /(do not add up to anything\.|加起来没有意义。)$/,
      );
});
