import assert from "node:assert/strict";
import { test } from "node:test";
import { readRows, targetOf, textOf } from "../src/base/rows";

test("CSV cells may hold commas, quotes and ends of lines, and rows keep their lines", () => {
  const text = 'text,label\n"one, ""two""",a\n"over\ntwo lines",b\nlast,c\n';
  const { rows } = readRows(text, true);
  assert.deepEqual(
    rows.map((row) => [row.line, textOf(row), targetOf(row)]),
    [
      [2, 'one, "two"', "a"],
      [3, "over\ntwo lines", "b"],
      [5, "last", "c"],
    ],
  );
});

test("JSONL rows of every task tell their text and what is learned", () => {
  const said = [
    { text: "a", labels: ["x", "y"] },
    { text: "b", score: 0.5 },
    { tokens: ["c", "d"], tags: ["O", "B"] },
    {
      messages: [
        { role: "user", content: "e" },
        { role: "assistant", content: "z" },
      ],
    },
  ];
  const { rows } = readRows(said.map((row) => JSON.stringify(row)).join("\n\n"), true);
  assert.deepEqual(rows.map(textOf), ["a", "b", "c d", "e"]);
  assert.deepEqual(rows.map(targetOf), ["x, y", "0.5", "O B", "z"]);
  assert.deepEqual(
    rows.map((row) => row.line),
    [1, 3, 5, 7],
  );
});

test("the last row of a file that was cut off is left out, and Parquet is not read", () => {
  assert.equal(readRows('{"text": "a"}\n{"te', false).rows.length, 1);
  assert.equal(readRows("PAR1...", true).readable, false);
});
