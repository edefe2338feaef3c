import type { Evaluation } from "../../api/evaluation";
import { count } from "../../base/format";
import { useWords } from "../../base/language";
import { amount, type Metric } from "../../base/metric";
import { Card } from "../../parts/card";
import { TableBehind } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";
import { Ranges } from "./ranges";

interface SlicesProps {
  metric: Metric;
  slices: NonNullable<Evaluation["slices"]>;
}

/** The figure on parts of the rows. */
export function Slices({ metric, slices }: SlicesProps) {
  const words = useWords(evaluateWords);
  return (
    <Card title={words.slices} note={words.slicesNote(metric.higher_is_better)}>
      <div class="columns">
        {slices.map((slice) => {
          const by = words.by[slice.by] ?? slice.by;
          return (
            <div key={slice.by} class="stack">
              <h3>{by}</h3>
              <Ranges
                metric={metric}
                label={by}
                rows={slice.groups.flatMap(({ value, ...group }) =>
                  value === null ? [] : [{ ...group, value, note: count(group.rows) }],
                )}
              />
            </div>
          );
        })}
      </div>
      <TableBehind
        label={words.slices}
        columns={[
          { name: words.group },
          { name: words.rows, right: true },
          { name: words.figure, right: true },
          { name: "95%", right: true },
        ]}
        rows={slices.flatMap((slice) =>
          slice.groups.map((group) => [
            `${words.by[slice.by] ?? slice.by}: ${group.name}`,
            count(group.rows),
            amount(metric, group.value),
            group.interval?.map((one) => amount(metric, one)).join(" – ") ?? "",
          ]),
        )}
      />
    </Card>
  );
}
