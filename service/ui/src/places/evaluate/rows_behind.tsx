import { useEffect, useRef } from "preact/hooks";
import type { Prediction } from "../../api/evaluation";
import { count, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Table } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";
import type { CellOf } from "./confusion";

const SHOWN = 200;

interface RowsBehindProps {
  cell: CellOf;
  predictions: readonly Prediction[];
  model: string;
  onClose: () => void;
}

/** The held-out rows of one cell, the surest first. */
export function RowsBehind({ cell, predictions, model, onClose }: RowsBehindProps) {
  const words = useWords(evaluateWords);
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => place.current?.scrollIntoView({ block: "nearest" }), [cell]);
  const rows = predictions
    .filter((row) => row.truth === cell.truth && row.predicted === cell.predicted)
    .sort((a, b) => (b.sure ?? 0) - (a.sure ?? 0));
  const title =
    cell.truth === cell.predicted ? words.rowsOf(cell.predicted) : words.rowsBehind(cell.truth, cell.predicted);
  return (
    <div ref={place} id="rows-behind">
      <Card
        title={`${title} · ${count(rows.length)}`}
        tools={
          <button type="button" class="button tiny" onClick={onClose}>
            {words.closeRows}
          </button>
        }
      >
        <Table
          label={title}
          columns={[{ name: words.line, right: true }, { name: words.sure, right: true }, { name: words.text }]}
          rows={rows.slice(0, SHOWN).map((row) => [
            row.line,
            row.sure === null ? "–" : percent(row.sure),
            <a key={row.line} class="plain" href={pathTo("look", null, { model, text: row.text })}>
              {row.text}
            </a>,
          ])}
        />
      </Card>
    </div>
  );
}
