import "./browser";
import assert from "node:assert/strict";
import { test } from "node:test";
import { gain } from "../src/api/evaluation";
import { amount, headlineOf, metricOf } from "../src/base/metric";

test("a share is said as a percentage, an error in its own unit", () => {
  assert.equal(amount(metricOf("accuracy"), 0.912), "91.2%");
  assert.equal(amount(metricOf("mean_absolute_error"), 3.983), "3.98");
  assert.equal(amount(metricOf("micro_f1"), null), "–");
});

test("a run is judged by what its evaluation begins with", () => {
  const first = (...names: string[]) => headlineOf(Object.fromEntries(names.map((name) => [name, 0.5])))?.metric.key;
  assert.equal(first("loss", "accuracy", "macro_f1"), "accuracy");
  assert.equal(first("loss", "accuracy", "micro_f1", "macro_f1"), "micro_f1");
  assert.equal(first("loss", "accuracy", "macro_f1", "span_f1"), "span_f1");
  assert.equal(first("loss", "mean_absolute_error", "r2", "correlation"), "mean_absolute_error");
  assert.equal(first("loss", "accuracy", "perplexity"), "perplexity");
  assert.equal(headlineOf({ confusion_matrix: {} }), null);
  assert.equal(headlineOf(null), null);
});

test("a smaller error is a gain, a smaller share a loss", () => {
  const [accuracy, error] = [metricOf("accuracy"), metricOf("mean_absolute_error")];
  const below = { baseline: "mean", value: -3, interval: [-4, -2] as [number, number] };
  assert.equal(gain(error, below), 1);
  assert.equal(gain(accuracy, below), -1);
  const above = { baseline: "mean", value: 3, interval: [2, 4] as [number, number] };
  assert.equal(gain(error, above), -1);
  assert.equal(gain(accuracy, above), 1);
  assert.equal(gain(error, { ...below, interval: [-4, 1] }), 0);
  assert.equal(gain(error, { ...below, interval: null }), 0);
});
