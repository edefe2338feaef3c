import type { Suspect } from "../../api/evaluation";
import { useWords } from "../../base/language";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Table } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";

interface SuspectsProps {
  title: string;
  note: string;
  rows: readonly Suspect[];
  measure: { name: string; of: (row: Suspect) => string }; // by which they are ranked
  model: string;
}

/** Rows worth a look, the worst first; each opens inside the model. */
export function Suspects({ title, note, rows, measure, model }: SuspectsProps) {
  const words = useWords(evaluateWords);
  if (!rows.length) return null;
  return (
    <Card title={title} note={note}>
      <Table
        label={title}
        columns={[
          { name: words.line, right: true },
          { name: words.given },
          { name: rows[0].predicted === undefined ? words.suggested : words.predicted },
          { name: measure.name, right: true },
          { name: words.text },
        ]}
        rows={rows.map((row) => [
          row.line,
          row.true ?? row.given,
          row.predicted ?? row.suggested ?? "",
          measure.of(row),
          <a key={row.line} class="plain" href={pathTo("look", null, { model, text: row.text })}>
            {row.text}
          </a>,
        ])}
      />
    </Card>
  );
}
