import { useWords } from "../../base/language";
import { useStore } from "../../base/store";
import { paint } from "../../base/theme";
import { Card } from "../../parts/card";
import { toned } from "../../parts/palette";
import { evaluateWords } from "../../words/evaluate";

export interface CellOf {
  truth: string;
  predicted: string;
}

interface ConfusionProps {
  confusion: { labels: string[]; counts: number[][] };
  chosen: CellOf | null;
  onChoose: (cell: CellOf | null) => void;
}

/** True labels against answers: the table is the picture; each cell opens the rows behind it. */
export function Confusion({ confusion: { labels, counts }, chosen, onChoose }: ConfusionProps) {
  const words = useWords(evaluateWords);
  useStore(paint);
  return (
    <Card title={words.confusion} note={words.confusionNote}>
      <div class="grid-frame" tabIndex={0} role="region" aria-label={words.confusion}>
        <table class="confusion">
          <thead>
            <tr>
              <td class="small muted">
                {words.truth} ↓ {words.predicted} →
              </td>
              {labels.map((label) => (
                <th key={label} scope="col">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {counts.map((row, truth) => {
              const total = row.reduce((sum, value) => sum + value, 0) || 1;
              return (
                <tr key={labels[truth]}>
                  <th scope="row">{labels[truth]}</th>
                  {row.map((value, predicted) => {
                    const share = (truth === predicted ? 1 : -1) * (value / total);
                    const here = chosen?.truth === labels[truth] && chosen.predicted === labels[predicted];
                    const cell = { truth: labels[truth], predicted: labels[predicted] };
                    return (
                      <td key={labels[predicted]}>
                        <button
                          type="button"
                          style={toned(share)}
                          aria-pressed={here}
                          aria-label={`${words.rowsBehind(cell.truth, cell.predicted)}: ${value}`}
                          disabled={!value}
                          onClick={() => onChoose(here ? null : cell)}
                        >
                          {value}
                        </button>
                      </td>
                    );
                  })}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Card>
  );
}
