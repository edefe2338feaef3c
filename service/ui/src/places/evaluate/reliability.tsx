import type { Evaluation } from "../../api/evaluation";
import { count, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { TableBehind } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";

const [SIDE, LEFT, BOTTOM, TOP] = [240, 46, 36, 10];

/** How often answers are right, by how sure they are. */
export function Reliability({ calibration }: { calibration: NonNullable<Evaluation["calibration"]> }) {
  const words = useWords(evaluateWords);
  const { bins, temperature, before } = calibration;
  const most = Math.max(...bins.map((bin) => bin.count), 1);
  const x = (share: number): number => LEFT + share * SIDE * 1.6;
  const y = (share: number): number => TOP + (1 - share) * SIDE;
  return (
    <Card
      title={words.reliability}
      note={[words.reliabilityNote, before && words.beforeNote].filter(Boolean).join(" ")}
    >
      <div class="stack">
        <svg
          class="plot"
          viewBox={`0 0 ${LEFT + SIDE * 1.6 + 12} ${SIDE + TOP + BOTTOM}`}
          role="img"
          aria-label={words.reliability}
        >
          {[0, 0.25, 0.5, 0.75, 1].map((share) => (
            <g key={share}>
              <line class="grid" x1={x(0)} x2={x(1)} y1={y(share)} y2={y(share)} />
              <text class="tick" x={LEFT - 6} y={y(share) + 4} text-anchor="end">
                {percent(share, 0)}
              </text>
              <text class="tick" x={x(share)} y={y(0) + 16} text-anchor="middle">
                {percent(share, 0)}
              </text>
            </g>
          ))}
          <line class="mark" x1={x(0)} y1={y(0)} x2={x(1)} y2={y(1)} />
          {before && (
            <polyline
              class="trace before"
              points={before.bins.map((bin) => `${x(bin.confidence)},${y(bin.accuracy)}`).join(" ")}
            />
          )}
          <polyline class="trace" points={bins.map((bin) => `${x(bin.confidence)},${y(bin.accuracy)}`).join(" ")} />
          {bins.map((bin) => (
            <circle
              key={bin.from}
              class="dot-fill"
              cx={x(bin.confidence)}
              cy={y(bin.accuracy)}
              r={3 + 7 * Math.sqrt(bin.count / most)}
            >
              <title>{`${percent(bin.confidence)} → ${percent(bin.accuracy)}, ${bin.count}`}</title>
            </circle>
          ))}
          <text class="tick" x={x(1)} y={y(0) + 32} text-anchor="end">
            {words.confidence}
          </text>
        </svg>
        <Figures
          of={[
            { name: words.ece, value: percent(calibration.ece) },
            { name: words.mce, value: percent(calibration.mce) },
            { name: words.confidence, value: percent(calibration.mean_confidence) },
            { name: words.accuracy, value: percent(calibration.accuracy) },
            ...(temperature && before
              ? [
                  { name: words.temperature, value: temperature.toFixed(2) },
                  { name: words.eceBefore, value: percent(before.ece) },
                ]
              : []),
          ]}
        />
        <TableBehind
          label={words.reliability}
          columns={[words.confidence, words.accuracy, words.answers].map((name) => ({ name, right: true }))}
          rows={bins.map((bin) => [percent(bin.confidence), percent(bin.accuracy), count(bin.count)])}
        />
      </div>
    </Card>
  );
}
