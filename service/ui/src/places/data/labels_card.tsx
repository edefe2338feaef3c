import type { Report } from "../../api/files";
import { count, figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Bars } from "../../parts/bars";
import { Card } from "../../parts/card";
import { Columns } from "../../parts/columns";
import { TableBehind } from "../../parts/table";
import { dataWords } from "../../words/data";
import { EVERY, type Picked } from "./picked";

interface PickProps {
  report: Report;
  picked: Picked;
  onPick: (picked: Picked) => void;
}

const SHOWN = 30;

/** How many rows each label has, or how the scores lie. */
export function LabelsCard({ report, picked, onPick }: PickProps) {
  const words = useWords(dataWords);
  const { labels = [], scores } = report;
  if (scores)
    return (
      <Card title={words.scores}>
        <Columns
          edges={scores.edges}
          counts={scores.counts}
          label={words.scores}
          unit=""
          chosen={picked.kind === "score" ? picked.bin : null}
          onChoose={(bin) =>
            onPick(
              picked.kind === "score" && picked.bin === bin
                ? EVERY
                : {
                    kind: "score",
                    bin,
                    from: scores.edges[bin],
                    to: scores.edges[bin + 1],
                    last: bin === scores.counts.length - 1,
                  },
            )
          }
        />
        <TableBehind
          label={words.scores}
          columns={[{ name: words.scores }, { name: words.rows, right: true }]}
          rows={scores.counts.map((rows, bin) => [
            `${figure(scores.edges[bin])} – ${figure(scores.edges[bin + 1])}`,
            count(rows),
          ])}
        />
      </Card>
    );
  if (!labels.length) return null;
  const total = labels.reduce((sum, one) => sum + one.count, 0);
  const chosen = picked.kind === "label" ? picked.label : null;
  return (
    <Card title={words.labels} note={words.labelsNote}>
      <Bars
        label={words.labels}
        chosen={chosen}
        onChoose={(label) => onPick(label === chosen ? EVERY : { kind: "label", label })}
        bars={labels.slice(0, SHOWN).map((one) => ({
          name: one.label,
          value: one.count,
          shown: `${count(one.count)} · ${percent(one.count / total, 0)}`,
        }))}
      />
      <TableBehind
        label={words.labels}
        columns={[{ name: words.labels }, { name: words.rows, right: true }]}
        rows={labels.map((one) => [one.label, count(one.count)])}
      />
    </Card>
  );
}
