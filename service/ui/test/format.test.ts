import "./browser";
import assert from "node:assert/strict";
import { test } from "node:test";
import { figure, tick } from "../src/base/format";

test("a figure has three digits that say something, whatever its size", () => {
  const shown: [number, string][] = [
    [0, "0"],
    [-0, "0"],
    [0.000021, "2.10e−5"],
    [0.0006, "0.000600"],
    [0.00149, "0.00149"],
    [0.0567, "0.0567"],
    [-0.98765, "−0.988"],
    [3.14159, "3.14"],
    [99.96, "100"],
    [-1234.5, "−1235"],
    [1_234_567, "1.23e+6"],
    [-0.00001, "−1.00e−5"],
    [-Infinity, "−∞"],
    [NaN, "NaN"],
  ];
  for (const [value, text] of shown) assert.equal(figure(value), text);
});

test("no two numbers beside an axis read alike, however close they are", () => {
  assert.deepEqual([0, 0.0005, 0.001, 0.0015].map(tick), ["0", "0.0005", "0.001", "0.0015"]);
  assert.deepEqual([0.9512, 0.9514].map(tick), ["0.9512", "0.9514"]);
  assert.deepEqual([-20, 0.1 + 0.2, 100, 2_500_000].map(tick), ["−20", "0.3", "100", "2.5e+6"]);
  assert.deepEqual([0.000025, -0.00005].map(tick), ["2.5e−5", "−5e−5"]);
});
