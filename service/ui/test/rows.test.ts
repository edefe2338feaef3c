import assert from "node:assert/strict";
import { test } from "node:test";
import { inputOf, labelsOf, readRows, targetOf, textOf } from "../src/base/rows";

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

function rowsOf(said: readonly object[]) {
  return readRows(said.map((row) => JSON.stringify(row)).join("\n"), true).rows;
}

test("a row counts for each of its labels, whole", () => {
  const rows = rowsOf([
    { text: "a", label: "not spam" },
    { text: "b", labels: ["sci fi", "drama"] },
    { tokens: ["c", "d"], tags: ["O", "B-X"] },
    { text: "e", label: 3 },
    { messages: [{ role: "assistant", content: " two words " }] },
    { text: "f", score: 1 },
  ]);
  assert.deepEqual(rows.map(labelsOf), [["not spam"], ["sci fi", "drama"], ["O", "B-X"], ["3"], ["two words"], []]);
  const csv = readRows("text, labels\na,sci fi | drama\nb,\n", true).rows;
  assert.deepEqual(csv.map(labelsOf), [["sci fi", "drama"], []]);
});

test("a row is read as training reads it: pairs as pairs, words and messages joined", () => {
  const rows = rowsOf([
    { text: "a", text_pair: "b", label: "x" },
    { text: "a", text_pair: null, label: "x" },
    { text: "a", text_pair: "", label: "x" },
    { tokens: ["我", "爱", "New", "York", "！"], tags: ["O", "O", "B", "I", "O"] },
    {
      messages: [
        { role: "user", content: "c" },
        { role: "user", content: "d" },
        { role: "assistant", content: "x" },
      ],
    },
  ]);
  assert.deepEqual(rows.map(inputOf), [["a", "b"], "a", "a", "我爱New York！", "c\nd"]);
  assert.equal(textOf(rows[0]), "a\tb");
});
