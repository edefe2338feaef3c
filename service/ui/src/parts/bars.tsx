export interface Bar {
  name: string;
  value: number; // what the bar's length says
  shown: string;
  tone?: "second" | "quiet";
}

interface BarsProps {
  bars: readonly Bar[];
  label: string;
  most?: number; // what fills the track; else the largest
  chosen?: string | null;
  onChoose?: (name: string) => void;
}

/** Horizontal bars with their numbers beside them; with onChoose each is a button. */
export function Bars({ bars, label, most, chosen, onChoose }: BarsProps) {
  const full = most ?? Math.max(...bars.map((bar) => bar.value), 1e-9);
  return (
    <div class="bars" role="group" aria-label={label}>
      {bars.map((bar) => {
        const inside = (
          <>
            <span class="bar-name" title={bar.name}>
              {bar.name}
            </span>
            <span class="bar-track" aria-hidden="true">
              <span class={bar.tone} style={{ width: `${Math.min(100, (100 * bar.value) / full)}%` }} />
            </span>
            <span class="bar-value">{bar.shown}</span>
          </>
        );
        return onChoose ? (
          <button key={bar.name} type="button" aria-pressed={chosen === bar.name} onClick={() => onChoose(bar.name)}>
            {inside}
          </button>
        ) : (
          <div key={bar.name}>{inside}</div>
        );
      })}
    </div>
  );
}
