import type { Group, Report } from "../../api/files";
import { count } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { Table } from "../../parts/table";
import { dataWords } from "../../words/data";

const KINDS = ["exact", "contradictory", "near"] as const;

interface CopiesCardProps {
  report: Report;
  onLine: (line: number) => void;
}

/** Rows that repeat or contradict each other, and leaks into the held-out rows. */
export function CopiesCard({ report, onLine }: CopiesCardProps) {
  const words = useWords(dataWords);
  const { duplicates, leakage } = report;
  if (!duplicates) return null;
  const groups = KINDS.flatMap((kind) => duplicates[kind].groups.map((group) => ({ kind, group })));
  const lines = (group: Group) =>
    group.lines.map((line) => (
      <button key={line} type="button" class="chip" onClick={() => onLine(line)}>
        {line}
      </button>
    ));
  return (
    <Card title={words.copies} note={words.copiesNote}>
      <div class="stack">
        <Figures
          of={[
            ...KINDS.map((kind) => ({ name: words[kind], value: count(duplicates[kind].rows) })),
            ...(leakage ? [{ name: words.leaks, value: count(leakage.exact + leakage.near) }] : []),
          ]}
        />
        {groups.length ? (
          <Table
            label={words.copies}
            columns={[{ name: words.state }, { name: words.line }, { name: words.text }, { name: words.learned }]}
            rows={groups.map(({ kind, group }) => [
              words[kind],
              <span key="lines" class="row">
                {lines(group)}
              </span>,
              group.texts[0],
              [...new Set(group.labels)].join(" / "),
            ])}
          />
        ) : (
          <p class="small muted">{words.noCopies}</p>
        )}
      </div>
    </Card>
  );
}
