// Rows of a text file as the service reads them: JSONL or CSV with a header, each with its line.

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
      const pairs = Object.entries(found).map(([name, value]): [string, string] => [
        name,
        typeof value === "string" ? value : JSON.stringify(value),
      ]);
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
    fields: Object.fromEntries((header?.cells ?? []).map((name, index) => [name, cells[index] ?? ""])),
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

/** What a row says, in one line. */
export function textOf(row: Row): string {
  const { text, tokens, messages } = row.fields;
  if (text !== undefined) return text;
  if (tokens !== undefined) return parsedList(tokens).map(String).join(" ");
  if (messages !== undefined)
    return parsedList(messages)
      .map((message) => (isMessage(message) && message.role === "user" ? message.content : ""))
      .join(" ")
      .trim();
  return Object.values(row.fields).join(" ");
}

/** What is to be learned of it. */
export function targetOf(row: Row): string {
  const { label, labels, score, tags, messages } = row.fields;
  if (messages !== undefined) {
    const last = parsedList(messages).findLast((message) => isMessage(message) && message.role === "assistant");
    return isMessage(last) ? last.content : "";
  }
  return label ?? score ?? (labels ? parsedList(labels, "|").join(", ") : tags ? parsedList(tags).join(" ") : "");
}

function parsedList(text: string, separator = " "): unknown[] {
  try {
    const found: unknown = JSON.parse(text);
    return Array.isArray(found) ? found : [found];
  } catch {
    return text.split(separator);
  }
}

function isMessage(value: unknown): value is { role: string; content: string } {
  return typeof value === "object" && value !== null && "role" in value && "content" in value;
}
