import type { Evaluation } from "../../api/evaluation";
import { useWords } from "../../base/language";
import { amount } from "../../base/metric";
import { Card } from "../../parts/card";
import { TableBehind } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";
import { figureWords, nameOfFigure } from "../../words/figures";
import { Ranges } from "./ranges";

/** The model beside what simple ones reach on the same rows. */
export function Baselines({ evaluation }: { evaluation: Evaluation }) {
  const words = useWords(evaluateWords);
  const names = useWords(figureWords);
  const { metric } = evaluation;
  const rows = [
    { name: words.thisModel, what: "", headline: evaluation.headline, main: true },
    ...evaluation.baselines.map((one) => ({ ...one, main: false })),
  ].flatMap(({ name, what, headline, main }) =>
    headline.value === null ? [] : [{ name, value: headline.value, interval: headline.interval, note: what, main }],
  );
  return (
    <Card title={words.baselines} note={words.baselinesNote(metric.higher_is_better)}>
      <Ranges metric={metric} rows={rows} label={words.baselines} />
      <TableBehind
        label={words.baselines}
        columns={[
          { name: words.model },
          { name: nameOfFigure(names, metric.title), right: true },
          { name: "95%", right: true },
        ]}
        rows={rows.map((row) => [
          row.name,
          amount(metric, row.value),
          row.interval?.map((one) => amount(metric, one)).join(" – ") ?? "",
        ])}
      />
    </Card>
  );
}
