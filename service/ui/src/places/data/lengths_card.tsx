import type { Report } from "../../api/files";
import { count, figure } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Columns } from "../../parts/columns";
import { Figures } from "../../parts/figures";
import { TableBehind } from "../../parts/table";
import { dataWords } from "../../words/data";
import { EVERY, type Picked } from "./picked";

interface PickProps {
  report: Report;
  picked: Picked;
  onPick: (picked: Picked) => void;
}

/** How long the rows are, and what would be cut. */
export function LengthsCard({ report, picked, onPick }: PickProps) {
  const words = useWords(dataWords);
  const lengths = report.tokens;
  if (!lengths) return null;
  const { edges, counts } = lengths.histogram;
  const chosen = picked.kind === "length" ? picked.bin : null;
  const rangeOf = (bin: number): string => words.ofLength(String(edges[bin]), String(edges[bin + 1] - 1));
  return (
    <Card title={words.lengths} note={words.lengthsNote}>
      <div class="stack">
        <Columns
          edges={edges}
          counts={counts}
          label={words.lengths}
          unit={words.stages.tokens}
          mark={{ at: Math.min(lengths.cut_at, edges.at(-1) ?? 0), name: words.cutAt(String(lengths.cut_at)) }}
          chosen={chosen}
          onChoose={(bin) =>
            onPick(bin === chosen ? EVERY : { kind: "length", bin, from: edges[bin], to: edges[bin + 1] - 1 })
          }
        />
        <Figures
          of={[
            { name: words.mean, value: figure(lengths.mean) },
            { name: words.median, value: figure(lengths.median) },
            { name: words.longest, value: count(lengths.longest) },
            { name: words.cut, value: count(lengths.rows_cut) },
          ]}
        />
        <TableBehind
          label={words.lengths}
          columns={[{ name: words.lengths }, { name: words.rows, right: true }]}
          rows={counts.flatMap((rows, bin) => (rows ? [[rangeOf(bin), count(rows)]] : []))}
        />
      </div>
    </Card>
  );
}
