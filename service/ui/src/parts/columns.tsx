import { figure } from "../base/format";

interface ColumnsProps {
  edges: readonly number[];
  counts: readonly number[];
  label: string;
  unit: string;
  mark?: { at: number; name: string } | null;
  chosen?: number | null;
  onChoose?: (bin: number) => void;
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [560, 190, 44, 34, 18];

/** The next number whose half can be read, too. */
function evenly(value: number): number {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((times) => times * unit).find((round) => round >= value) ?? value;
}

/** A histogram as SVG; with onChoose each column is a button. */
export function Columns({ edges, counts, label, unit, mark, chosen, onChoose }: ColumnsProps) {
  const most = evenly(Math.max(...counts, 2));
  const step = (WIDTH - LEFT - 8) / counts.length;
  const high = HEIGHT - BOTTOM - TOP;
  const every = Math.ceil(counts.length / 9);
  const place = (value: number): number => {
    const bin = counts.findIndex((_, index) => value < (edges[index + 1] ?? Infinity));
    const at = bin < 0 ? counts.length - 1 : bin;
    const [from, to] = [edges[at] ?? 0, edges[at + 1] ?? 1];
    return LEFT + (at + Math.min(1, (value - from) / (to - from))) * step;
  };
  return (
    <svg class="plot" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label={label}>
      {[0, 0.5, 1].map((share) => (
        <g key={share}>
          <line class="grid" x1={LEFT} x2={WIDTH - 8} y1={TOP + high * (1 - share)} y2={TOP + high * (1 - share)} />
          <text class="tick" x={LEFT - 6} y={TOP + high * (1 - share) + 4} text-anchor="end">
            {figure(most * share).replace(/\.0+$/, "")}
          </text>
        </g>
      ))}
      {counts.map((count, bin) => {
        const tall = (count / most) * high;
        const says = `${figure(edges[bin] ?? 0)}–${figure(edges[bin + 1] ?? 0)} ${unit}: ${count}`;
        const choose = onChoose && count ? () => onChoose(bin) : undefined;
        return (
          <g
            key={bin}
            class={choose ? "column choosable" : "column"}
            role={choose ? "button" : "img"}
            aria-label={says}
            aria-pressed={choose ? chosen === bin : undefined}
            tabIndex={choose ? 0 : undefined}
            onClick={choose}
            onKeyDown={(event) => {
              if (event.key === "Enter" || event.key === " ") {
                event.preventDefault();
                choose?.();
              }
            }}
          >
            <title>{says}</title>
            <rect class="hit" x={LEFT + bin * step} y={TOP} width={step} height={high} />
            <rect
              class="fill"
              x={LEFT + bin * step + 1}
              y={TOP + high - tall}
              width={Math.max(1, step - 2)}
              height={tall}
              rx="1.5"
            />
          </g>
        );
      })}
      {edges.map((edge, index) =>
        index % every === 0 ? (
          <text key={index} class="tick" x={LEFT + index * step} y={HEIGHT - BOTTOM + 16} text-anchor="middle">
            {figure(edge).replace(/\.0+$/, "")}
          </text>
        ) : null,
      )}
      <text class="tick" x={WIDTH - 8} y={HEIGHT - 4} text-anchor="end">
        {unit}
      </text>
      {mark && (
        <g>
          <line class="mark" x1={place(mark.at)} x2={place(mark.at)} y1={TOP - 4} y2={TOP + high} />
          <text class="tick strong" x={Math.min(place(mark.at) + 4, WIDTH - 90)} y={TOP - 6}>
            {mark.name}
          </text>
        </g>
      )}
    </svg>
  );
}
