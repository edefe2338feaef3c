import type { Interval } from "../../api/evaluation";
import { percent } from "../../base/format";

export interface Ranged {
  name: string;
  value: number;
  interval: Interval;
  note?: string;
  main?: boolean;
}

/** Values as dots with their intervals as lines, on one scale from 0 to 1. */
export function Ranges({ rows, label }: { rows: readonly Ranged[]; label: string }) {
  const low = Math.min(...rows.map((row) => row.interval?.[0] ?? row.value));
  const from = low >= 0 ? Math.max(0, Math.floor(low * 10 - 1) / 10) : low;
  const place = (value: number): string => `${(100 * (value - from)) / (1 - from)}%`;
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
          <span class="bar-value">{percent(row.value)}</span>
        </div>
      ))}
      <div class="range scale" aria-hidden="true">
        <span />
        <span class="range-scale">
          <span>{percent(from, 0)}</span>
          <span>{percent((1 + from) / 2, 0)}</span>
          <span>{percent(1, 0)}</span>
        </span>
        <span />
      </div>
    </div>
  );
}
