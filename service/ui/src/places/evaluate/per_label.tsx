import type { PerLabel } from "../../api/evaluation";
import { count, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { TableBehind } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";

const KINDS = ["precision", "recall", "f1"] as const;
const SHOWN = 30;

/** Precision, recall and F1 of each label. */
export function PerLabelCard({ labels }: { labels: readonly PerLabel[] }) {
  const words = useWords(evaluateWords);
  return (
    <Card
      title={words.perLabel}
      note={words.perLabelNote}
      tools={
        <span class="row small" aria-hidden="true">
          {KINDS.map((kind) => (
            <span key={kind} class={`key ${kind}`}>
              {words[kind]}
            </span>
          ))}
        </span>
      }
    >
      <div class="per-label">
        {labels.slice(0, SHOWN).map((one) => (
          <div key={one.label}>
            <span class="bar-name" title={one.label}>
              {one.label} <small class="muted number">{count(one.support)}</small>
            </span>
            <span class="per-label-bars">
              {KINDS.map((kind) => (
                <span key={kind} class="bar-track">
                  <span
                    class={kind}
                    style={{ width: `${100 * one[kind]}%` }}
                    title={`${words[kind]} ${percent(one[kind])}`}
                  />
                </span>
              ))}
            </span>
            <span class="bar-value">{percent(one.f1)}</span>
          </div>
        ))}
      </div>
      <TableBehind
        label={words.perLabel}
        columns={[
          { name: words.label },
          ...KINDS.map((kind) => ({ name: words[kind], right: true })),
          { name: words.support, right: true },
        ]}
        rows={labels.map((one) => [one.label, ...KINDS.map((kind) => percent(one[kind])), count(one.support)])}
      />
    </Card>
  );
}
