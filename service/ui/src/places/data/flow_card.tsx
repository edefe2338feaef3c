import type { Report } from "../../api/files";
import { count } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { dataWords } from "../../words/data";

/** From rows to batches, with what is lost at each stage. */
export function FlowCard({ report }: { report: Report }) {
  const words = useWords(dataWords);
  return (
    <Card title={words.flow} note={words.flowNote}>
      <ol class="funnel">
        {report.flow.map((stage) => (
          <li key={stage.stage}>
            <strong class="number">{count(stage.count)}</strong>
            <span>{words.stages[stage.stage] ?? stage.stage}</span>
            <small>
              {stage.lost > 0
                ? `− ${count(stage.lost)} ${words.lost[stage.why] ?? stage.why}`
                : stage.why.endsWith("padding")
                  ? stage.why.replace("padding", words.padding)
                  : " "}
            </small>
          </li>
        ))}
      </ol>
    </Card>
  );
}
