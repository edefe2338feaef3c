import type { Interval } from "../../api/evaluation";
import { percent } from "../../base/format";
import { useWords } from "../../base/language";
import { amount, type Metric } from "../../base/metric";
import { evaluateWords } from "../../words/evaluate";

export interface Ranged {
  name: string;
  value: number;
  interval: Interval;
  note?: string;
  main?: boolean;
}

interface RangesProps {
  metric: Metric;
  rows: readonly Ranged[];
  label: string;
}

/** Values as dots with their intervals as lines, on one scale: of shares up to 1, of errors from 0 to the largest. */
export function Ranges({ metric, rows, label }: RangesProps) {
  const words = useWords(evaluateWords);
  if (!rows.length) return <p class="muted">{words.nothing}</p>;
  const [from, to] = scaleOf(metric, rows);
  const place = (value: number): string => `${(100 * (value - from)) / (to - from)}%`;
  const tick = (value: number): string => (metric.higher_is_better ? percent(value, 0) : amount(metric, value));
  return (
    <div class="ranges" role="group" aria-label={label}>
      {rows.map((row) => (
        <div key={row.name} class={row.main ? "range main" : "range"} title={row.note}>
          <span class="bar-name">{row.name}</span>
          <span class="range-track" aria-hidden="true">
            {row.interval && (
              <i style={{ left: place(row.interval[0]), right: `calc(100% - ${place(row.interval[1])})` }} />
            )}
            <b style={{ left: place(row.value) }} />
          </span>
          <span class="bar-value">{amount(metric, row.value)}</span>
        </div>
      ))}
      <div class="range scale" aria-hidden="true">
        <span />
        <span class="range-scale">
          <span>{tick(from)}</span>
          <span>{tick((from + to) / 2)}</span>
          <span>{tick(to)}</span>
        </span>
        <span />
      </div>
    </div>
  );
}

function scaleOf(metric: Metric, rows: readonly Ranged[]): [number, number] {
  const ends = rows.flatMap((row) => [row.value, ...(row.interval ?? [])]);
  if (!metric.higher_is_better) return [0, Math.max(...ends) || 1];
  return [Math.max(0, Math.floor(Math.min(...ends) * 10 - 1) / 10), 1];
}
