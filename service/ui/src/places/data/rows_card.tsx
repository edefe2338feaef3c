// The rows themselves: all, or those behind a bar, a column, a line.

import { useEffect, useMemo, useState } from "preact/hooks";
import { tokenize, type Input } from "../../api/inference";
import { count, figure } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { inputOf, labelsOf, partsOf, targetOf, textOf, type ReadRows, type Row } from "../../base/rows";
import { Card } from "../../parts/card";
import { Notice, Waiting } from "../../parts/notice";
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
const A_TIME = 256; // as many of 512 tokens as one request may have

export function RowsCard({ read, whole, model, picked, onPick, onLine }: RowsCardProps) {
  const words = useWords(dataWords);
  const [wanted, want] = useState("");
  useEffect(() => want(""), [picked]);
  const filled = useMemo(() => read.rows.filter((row) => partsOf(inputOf(row))[0].trim()), [read]);
  const measuring = picked.kind === "length" && filled.length > 0;
  const lengths = useLoad(measuring ? `${model} ${filled.length}` : null, (signal) =>
    lengthsOf(model, filled.slice(0, MEASURED), signal),
  );
  const some = measuring && filled.length > MEASURED;
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
      ) : measuring && !lengths.value ? (
        <Waiting loaded={lengths}>{() => null}</Waiting>
      ) : (
        <div class="stack">
          <p class="small muted number" role="status">
            {words.shown(count(Math.min(rows.length, SHOWN)), count(rows.length))} {!whole && words.beginning}{" "}
            {some && words.measured(count(MEASURED))}
          </p>
          <Table
            label={words.rowsTitle}
            columns={[{ name: words.line, right: true }, { name: words.learned }, { name: words.text }]}
            rows={rows.slice(0, SHOWN).map((row) => [
              row.line,
              targetOf(row),
              <button key={row.line} type="button" class="row-text" onClick={() => onLine(row.line)}>
                <Texts of={inputOf(row)} />
              </button>,
            ])}
          />
        </div>
      )}
    </Card>
  );
}

function Texts({ of }: { of: Input }) {
  const words = useWords(dataWords);
  const [text, pair] = partsOf(of);
  return (
    <>
      {text.trim() ? text : <em class="muted">{words.empty}</em>}
      {pair !== undefined && (
        <>
          <span class="muted"> ⇥ </span>
          {pair}
        </>
      )}
    </>
  );
}

function chosen(rows: readonly Row[], picked: Picked, lengths: ReadonlyMap<Row, number> | null, wanted: string): Row[] {
  const sought = wanted.toLowerCase();
  return rows.filter((row) => {
    if (sought && !`${textOf(row)} ${targetOf(row)}`.toLowerCase().includes(sought)) return false;
    if (picked.kind === "line") return Math.abs(row.line - picked.line) <= 2;
    if (picked.kind === "label") return labelsOf(row).includes(picked.label);
    if (picked.kind === "score") {
      const score = Number(targetOf(row) || NaN);
      return score >= picked.from && (score < picked.to || (picked.last && score === picked.to));
    }
    if (picked.kind === "length") {
      const length = lengths?.get(row);
      return length !== undefined && length >= picked.from && length <= picked.to;
    }
    return true;
  });
}

/** In tokens, before any are cut; an empty row has none. */
async function lengthsOf(model: string, rows: readonly Row[], signal: AbortSignal): Promise<Map<Row, number>> {
  const lengths = new Map<Row, number>();
  for (let first = 0; first < rows.length; first += A_TIME) {
    const some = rows.slice(first, first + A_TIME);
    const read = await tokenize(model, some.map(inputOf), signal);
    some.forEach((row, index) => lengths.set(row, read[index].full_length));
  }
  return lengths;
}
