import type { Evaluation } from "../../api/evaluation";
import { count, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { TableBehind } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";
import { Ranges } from "./ranges";

/** The figure on parts of the rows. */
export function Slices({ slices }: { slices: NonNullable<Evaluation["slices"]> }) {
  const words = useWords(evaluateWords);
  return (
    <Card title={words.slices} note={words.slicesNote}>
      <div class="columns">
        {slices.map((slice) => {
          const by = words.by[slice.by] ?? slice.by;
          return (
            <div key={slice.by} class="stack">
              <h3>{by}</h3>
              <Ranges label={by} rows={slice.groups.map((group) => ({ ...group, note: count(group.rows) }))} />
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
            percent(group.value),
            group.interval?.map((one) => percent(one)).join(" – ") ?? "",
          ]),
        )}
      />
    </Card>
  );
}
