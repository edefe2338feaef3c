// One step: what it does in plain words, its formula, the numbers it is made from and the numbers it makes.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Trace } from "../../api/trace";
import { figure } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { TableBehind } from "../../parts/table";
import { stepWords } from "../../words/step";
import { Formula } from "./formula";
import { Heads } from "./heads";
import { MatrixView } from "./matrix_view";
import { arithmetic, matrixOf, numHeads, type Matrix } from "./numbers";
import { keyOf, type Placed } from "./sequence";

interface DetailProps {
  trace: Trace;
  at: Placed;
  head: number;
  onHead: (head: number) => void;
  onChoose: (key: string) => void;
  milliseconds: number; // in which the result appears
}

const TABLE_COLUMNS = 64;

export function Detail({ trace, at, head, onHead, onChoose, milliseconds }: DetailProps) {
  const words = useWords(stepWords);
  const stage = words.stages[at.name];
  const matrix = useMemo(() => matrixOf(at, head, trace), [at, head, trace]);
  const shown = useReveal(keyOf(at), milliseconds);
  const { summary, shape, formula } = at.stage;
  const heads = numHeads(at);
  const nameOf = (one: Placed): string => words.stages[one.name]?.name ?? one.name;
  return (
    <Card
      title={stage?.name ?? at.name}
      note={stage?.plain}
      tools={
        <span class="step-formula">
          <Formula text={formula} />
        </span>
      }
    >
      <div class="stack">
        {at.inputs.length > 0 && (
          <div class="step-inputs" role="group" aria-label={words.from}>
            {at.inputs.map((input) => {
              const own = matrixOf(input, head, trace);
              return (
                <div key={keyOf(input)} class="step-input">
                  <button type="button" class="chip" onClick={() => onChoose(keyOf(input))}>
                    {nameOf(input)}
                    {numHeads(input) > 0 && ` · ${words.zoomed(head)}`}
                  </button>
                  {own && <MatrixView matrix={own} label={nameOf(input)} small />}
                </div>
              );
            })}
          </div>
        )}
        <div class="row spread">
          <h3>
            ↓ {words.result}
            {heads > 0 && ` · ${words.zoomed(head)}`}
          </h3>
          {matrix && matrix.whole > (matrix.rows[0]?.length ?? 0) && (
            <span class="small muted">{words.shownOf(matrix.rows[0]?.length ?? 0, matrix.whole)}</span>
          )}
        </div>
        {matrix && (
          <MatrixView
            matrix={matrix}
            label={stage?.name ?? at.name}
            shown={shown}
            onCell={(row, column) => arithmetic(at, head, trace, row, column)}
          />
        )}
        {heads > 0 && <Heads trace={trace} at={at} head={head} onHead={onHead} />}
        <Figures
          of={[
            { name: words.shape, value: shape.join(" × "), note: shapeWords(shape, at, words) },
            { name: words.least, value: told(summary.min) },
            { name: words.most, value: told(summary.max) },
            { name: words.mean, value: told(summary.mean) },
            { name: words.deviation, value: told(summary.std) },
          ]}
        />
        {matrix && <Numbers matrix={matrix} label={stage?.name ?? at.name} />}
      </div>
    </Card>
  );
}

/** As a table; a single row stands upright. */
function Numbers({ matrix, label }: { matrix: Matrix; label: string }) {
  const words = useWords(stepWords);
  const { rows, rowNames, columnNames } = matrix;
  const across = rows[0]?.length ?? 0;
  const shown = rows.length === 1 ? across : Math.min(across, TABLE_COLUMNS);
  const names = Array.from({ length: shown }, (_, index) => columnNames?.[index] ?? String(index));
  const written = (value: number | null): string => (value === null ? "−∞" : figure(value));
  return (
    <>
      {rows.length === 1 ? (
        <TableBehind
          label={label}
          columns={[{ name: "" }, { name: label, right: true }]}
          rows={names.map((name, index) => [name, written(rows[0][index])])}
        />
      ) : (
        <TableBehind
          label={label}
          columns={["", ...names].map((name, index) => ({ name, right: index > 0 }))}
          rows={rows.map((row, index) => [rowNames[index], ...row.slice(0, shown).map(written)])}
        />
      )}
      {shown < across && <p class="small muted">{words.inTable(shown, across)}</p>}
    </>
  );
}

function told(value: number | null): string {
  return value === null ? "–" : figure(value);
}

function shapeWords(shape: readonly number[], at: Placed, words: (typeof stepWords)["en"]): string {
  const { tokens, heads, numbers, labels } = words.rows;
  const square = at.name === "scores" || at.name === "probabilities";
  const last = square ? tokens : at.name === "logits" || at.name === "label_probabilities" ? labels : numbers;
  return { 1: last, 2: `${tokens} × ${last}`, 3: `${heads} × ${tokens} × ${last}` }[shape.length] ?? "";
}

/** From 0 to 1 in that time, from the start of each step; 1 at once for those who want no motion. */
function useReveal(key: string, milliseconds: number): number {
  const [share, show] = useState(1);
  useEffect(() => {
    if (!milliseconds || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      show(1);
      return;
    }
    const started = performance.now();
    let frame = 0;
    const grow = (now: number) => {
      const grown = Math.min(1, Math.max(0.001, (now - started) / milliseconds));
      show(grown);
      if (grown < 1) frame = requestAnimationFrame(grow);
    };
    frame = requestAnimationFrame(grow);
    return () => cancelAnimationFrame(frame);
  }, [key, milliseconds]);
  return share;
}
