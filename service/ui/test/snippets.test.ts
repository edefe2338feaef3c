import assert from "node:assert/strict";
import { test } from "node:test";
import { snippet } from "../src/base/snippets";

const origin = "http://localhost:3000";
const quoted = { route: "/v1/classify", body: { model: "m", input: `it's "good"`, truncate: true, target: null } };

test("a shell gets a body with quotes as one word", () => {
  const shown = snippet("curl", origin, quoted);
  assert.ok(shown.startsWith(`curl ${origin}/v1/classify \\\n`));
  assert.ok(shown.includes(String.raw`it'\''s \"good\"`));
});

test("Python gets its own names of true and null", () => {
  const shown = snippet("Python", origin, quoted);
  assert.ok(shown.includes(`body={"model": "m", "input": "it's \\"good\\"", "truncate": True, "target": None}`));
});

test("what OpenAI's client does not know goes in extra_body, what is undefined nowhere", () => {
  const body = { model: "m", training_file: "f", suffix: undefined, adapter: "lora" };
  const shown = snippet("Python", origin, { route: "/v1/fine_tuning/jobs", body });
  assert.ok(
    shown.includes(
      `fine_tuning.jobs.create(\n    model="m",\n    training_file="f",\n    extra_body={"adapter": "lora"},\n)`,
    ),
  );
});

test("JavaScript gets the body as it is", () => {
  assert.ok(snippet("JavaScript", origin, quoted).includes(`JSON.stringify(${JSON.stringify(quoted.body)})`));
});
