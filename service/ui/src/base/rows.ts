// Rows of a text file as the service reads them: JSONL or CSV with a header, each with its line.

import type { Input } from "../api/inference";

export interface Row {
  line: number;
  fields: Record<string, string>;
}

export interface ReadRows {
  columns: string[];
  rows: Row[];
  readable: boolean; // false: Parquet, packed, or not text
}

/** `whole` false: the last row may be cut off, and is left out. */
export function readRows(text: string, whole: boolean): ReadRows {
  if (text.startsWith("PAR1") || text.includes("\u0000")) return { columns: [], rows: [], readable: false };
  const rows = text.trimStart().startsWith("{") ? jsonRows(text) : csvRows(text);
  if (!whole) rows.pop();
  const columns = [...new Set(rows.slice(0, 200).flatMap((row) => Object.keys(row.fields)))];
  return { columns, rows, readable: true };
}

function jsonRows(text: string): Row[] {
  return text.split("\n").flatMap((content, index) => {
    if (!content.trim()) return [];
    try {
      const found: unknown = JSON.parse(content);
      if (typeof found !== "object" || found === null) throw new Error("not an object");
      const pairs = Object.entries(found)
        .filter(([, value]) => value !== null) // how a row says that it has none
        .map(([name, value]): [string, string] => [name, typeof value === "string" ? value : JSON.stringify(value)]);
      return [{ line: index + 1, fields: Object.fromEntries(pairs) }];
    } catch {
      return [{ line: index + 1, fields: { text: content } }]; // a fault, shown as it stands
    }
  });
}

function csvRows(text: string): Row[] {
  const [header, ...records] = csvRecords(text);
  return records.map(({ line, cells }) => ({
    line,
    fields: Object.fromEntries((header?.cells ?? []).map((name, index) => [name.trim(), cells[index] ?? ""])),
  }));
}

export interface CsvRecord {
  line: number;
  cells: string[];
}

/** By RFC 4180: quoted cells may hold commas, quotes (doubled) and ends of lines. */
export function csvRecords(text: string): CsvRecord[] {
  const records: CsvRecord[] = [];
  let [line, start, cell, quoted] = [1, 1, "", false];
  let cells: string[] = [];
  const end = () => {
    if (cells.length || cell) records.push({ line: start, cells: [...cells, cell] });
    [cells, cell] = [[], ""];
  };
  for (let at = text.startsWith("\ufeff") ? 1 : 0; at < text.length; at += 1) {
    const letter = text[at];
    if (letter === "\n") line += 1;
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (letter === '"') quoted = true;
    else if (letter === ",") {
      cells.push(cell);
      cell = "";
    } else if (letter === "\n") {
      end();
      start = line;
    } else if (letter !== "\r") cell += letter;
  }
  end();
  return records;
}

/** What a model reads of a row, made as training makes it. */
export function inputOf(row: Row): Input {
  const { text, text_pair: pair, tokens, messages } = row.fields;
  if (text !== undefined) return pair ? [text, pair] : text;
  if (tokens !== undefined) return joined(parsedList(tokens, " ").map(String));
  if (messages !== undefined)
    return parsedList(messages, " ")
      .filter(isMessage)
      .filter((message) => message.role === "user")
      .map((message) => message.content)
      .join("\n");
  return Object.values(row.fields).join(" ");
}

/** Its texts: one or two. */
export const partsOf = (input: Input): readonly string[] => (typeof input === "string" ? [input] : input);

/** The same as one text. */
export const textOf = (row: Row): string => partsOf(inputOf(row)).join("\t");

/** Each label that a row counts for: its one, its several, or the tags of its words. */
export function labelsOf(row: Row): string[] {
  const { label, labels, tags, messages } = row.fields;
  if (messages !== undefined) {
    const last = parsedList(messages, " ").filter(isMessage).at(-1);
    return last?.role === "assistant" ? [last.content.trim()] : [];
  }
  if (tags !== undefined) return parsedList(tags, " ").map(String);
  if (label !== undefined) return [label];
  return labels === undefined ? [] : parsedList(labels, "|").map(String);
}

/** What is to be learned of it, in one line. */
export function targetOf(row: Row): string {
  return labelsOf(row).join(row.fields.tags === undefined ? ", " : " ") || (row.fields.score ?? "");
}

/** A list, as JSON or, in a CSV, between separators. */
function parsedList(text: string, separator: string): unknown[] {
  if (text.trimStart().startsWith("["))
    try {
      return JSON.parse(text) as unknown[];
    } catch {
      return [text];
    }
  return text
    .split(separator)
    .map((part) => part.trim())
    .filter(Boolean);
}

// Han, kana, their punctuation, full width
const UNSPACED = "[\\u2e80-\\u9fff\\uf900-\\ufaff\\uff00-\\uffef\\u{20000}-\\u{10ffff}]";
const UNSPACED_END = new RegExp(`${UNSPACED}$`, "u");
const UNSPACED_START = new RegExp(`^${UNSPACED}`, "u");

/** Words as running text: a space where both sides are written with spaces. */
function joined(words: readonly string[]): string {
  const spaced = (word: string, index: number): boolean =>
    index > 0 && !UNSPACED_END.test(words[index - 1]) && !UNSPACED_START.test(word);
  return words.map((word, index) => (spaced(word, index) ? ` ${word}` : word)).join("");
}

function isMessage(value: unknown): value is { role: string; content: string } {
  return typeof value === "object" && value !== null && "role" in value && "content" in value;
}
