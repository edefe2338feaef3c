// The rows themselves: all, or those behind a bar, a column, a line.

import { useEffect, useMemo, useState } from "preact/hooks";
import { tokenize } from "../../api/inference";
import { count, figure } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { targetOf, textOf, type ReadRows, type Row } from "../../base/rows";
import { Card } from "../../parts/card";
import { Notice } from "../../parts/notice";
import { Table } from "../../parts/table";
import { dataWords } from "../../words/data";
import { EVERY, type Picked } from "./picked";

interface RowsCardProps {
  read: ReadRows;
  whole: boolean;
  model: string;
  picked: Picked;
  onPick: (picked: Picked) => void;
  onLine: (line: number) => void;
}

const SHOWN = 100;
const MEASURED = 4096; // rows whose lengths are asked for, when a column of the lengths is chosen
const A_TIME = 1024;

export function RowsCard({ read, whole, model, picked, onPick, onLine }: RowsCardProps) {
  const words = useWords(dataWords);
  const [wanted, want] = useState("");
  useEffect(() => want(""), [picked]);
  const some = useMemo(() => read.rows.slice(0, MEASURED), [read]);
  const lengths = useLoad(picked.kind === "length" && some.length ? `${model} ${some.length}` : null, (signal) =>
    lengthsOf(model, some, signal),
  );
  const rows = useMemo(() => chosen(read.rows, picked, lengths.value, wanted), [read, picked, lengths.value, wanted]);
  const what = {
    every: words.all,
    label: picked.kind === "label" ? picked.label : "",
    length: picked.kind === "length" ? words.ofLength(String(picked.from), String(picked.to)) : "",
    score: picked.kind === "score" ? `${figure(picked.from)} – ${figure(picked.to)}` : "",
    line: picked.kind === "line" ? words.ofLine(picked.line) : "",
  }[picked.kind];
  return (
    <Card
      id="rows"
      title={words.rowsOf(what)}
      tools={
        <>
          <input
            class="find"
            type="search"
            placeholder={words.search}
            aria-label={words.search}
            value={wanted}
            onInput={(event) => want(event.currentTarget.value)}
          />
          {picked.kind !== "every" && (
            <button type="button" class="button tiny" onClick={() => onPick(EVERY)}>
              {words.everyRow}
            </button>
          )}
        </>
      }
    >
      {!read.readable ? (
        <Notice>{words.unreadable}</Notice>
      ) : (
        <div class="stack">
          <p class="small muted number" role="status">
            {words.shown(count(Math.min(rows.length, SHOWN)), count(rows.length))} {!whole && words.beginning}
          </p>
          <Table
            label={words.rowsTitle}
            columns={[{ name: words.line, right: true }, { name: words.learned }, { name: words.text }]}
            rows={rows.slice(0, SHOWN).map((row) => [
              row.line,
              targetOf(row),
              <button key={row.line} type="button" class="row-text" onClick={() => onLine(row.line)}>
                {textOf(row).trim() ? textOf(row) : <em class="muted">{words.empty}</em>}
              </button>,
            ])}
          />
        </div>
      )}
    </Card>
  );
}

function chosen(rows: readonly Row[], picked: Picked, lengths: number[] | null, wanted: string): Row[] {
  const sought = wanted.toLowerCase();
  return rows.filter((row, index) => {
    if (sought && !`${textOf(row)} ${targetOf(row)}`.toLowerCase().includes(sought)) return false;
    if (picked.kind === "line") return Math.abs(row.line - picked.line) <= 2;
    if (picked.kind === "label")
      return (
        targetOf(row) === picked.label ||
        targetOf(row)
          .split(/[,\s]+/)
          .includes(picked.label)
      );
    if (picked.kind === "score") {
      const score = Number(targetOf(row));
      return score >= picked.from && score <= picked.to;
    }
    if (picked.kind === "length") {
      const length = lengths?.[index];
      return length !== undefined && length >= picked.from && length <= picked.to;
    }
    return true;
  });
}

async function lengthsOf(model: string, rows: readonly Row[], signal: AbortSignal): Promise<number[]> {
  const lengths: number[] = [];
  for (let first = 0; first < rows.length; first += A_TIME) {
    const texts = rows.slice(first, first + A_TIME).map((row) => textOf(row).trim() || "-");
    lengths.push(...(await tokenize(model, texts, signal)).map((found) => found.ids.length));
  }
  return lengths;
}
