import assert from "node:assert/strict";
import { test } from "node:test";
import { quantile, rate, samplesOf, sum, type Scrape } from "../src/api/metrics";

function look(at: number, counts: readonly number[]): Scrape {
  const bounds = ["0.1", "1.0", "+Inf"];
  const lines = counts.map((count, index) => `seconds_bucket{le="${bounds[index]}",route="/v1/x"} ${count}`);
  return {
    at,
    samples: samplesOf(["# HELP seconds x", ...lines, `asked_total{route="/v1/x"} ${counts[2]}`].join("\n")),
  };
}

test("quantiles are of what happened between two looks", () => {
  const [before, now] = [look(0, [100, 100, 100]), look(10, [110, 120, 120])];
  assert.equal(rate(before, now, "asked_total"), 2);
  assert.equal(quantile(before, now, "seconds", 0.5), 0.1);
  assert.ok(Math.abs((quantile(before, now, "seconds", 0.75) ?? 0) - 0.55) < 1e-9);
  assert.equal(quantile(now, now, "seconds", 0.5), null);
});

test("a service that was started anew has no rate, and labels choose", () => {
  assert.equal(rate(look(0, [5, 5, 5]), look(1, [1, 1, 1]), "asked_total"), null);
  assert.equal(
    sum(look(0, [1, 2, 3]), "asked_total", (labels) => labels.route === "/v1/y"),
    0,
  );
});
