import type { Report } from "../../api/files";
import { count, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { TableBehind } from "../../parts/table";
import { dataWords } from "../../words/data";

/** Some rows of one batch, with the padding that fills them up. */
export function BatchCard({ report }: { report: Report }) {
  const words = useWords(dataWords);
  const found = report.batches;
  if (!found) return null;
  const { lengths, tokens: longest } = found.sample;
  return (
    <Card title={words.batch} note={words.batchNote}>
      <div class="stack">
        <div class="batch" role="img" aria-label={words.batchNote}>
          {lengths.map((length, index) => (
            <div key={index} class="batch-row" title={words.inRow(length, longest - length)}>
              <span style={{ width: `${(100 * length) / longest}%` }} />
            </div>
          ))}
        </div>
        <Figures
          of={[
            { name: words.batchSize, value: count(found.batch_size) },
            { name: words.perEpoch, value: count(found.per_epoch) },
            { name: words.paddingShare, value: percent(found.padding_share) },
          ]}
        />
        <TableBehind
          label={words.batch}
          columns={[
            { name: words.stages.tokens, right: true },
            { name: words.padding, right: true },
          ]}
          rows={lengths.map((length) => [length, longest - length])}
        />
      </div>
    </Card>
  );
}
