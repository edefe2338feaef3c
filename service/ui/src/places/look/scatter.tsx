import type { Drift } from "../../api/drift";
import { useWords } from "../../base/language";
import { driftWords } from "../../words/drift";

const SIDE = 420;
const PAD = 16;
const TONES = 6; // labels told apart by colour; more share the last

interface ScatterProps {
  drift: Drift;
  at: number;
  labels: readonly string[];
}

/** The texts in one plane for all stages; the user's own, the first, is ringed. Points glide from stage to stage. */
export function Scatter({ drift, at, labels }: ScatterProps) {
  const words = useWords(driftWords);
  const all = drift.frames.flatMap((frame) => frame.points);
  const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const [left, low] = [Math.min(...xs), Math.min(...ys)];
  const size = Math.max(Math.max(...xs) - left, Math.max(...ys) - low, 1e-6);
  const place = (value: number): number => PAD + (value / size) * (SIDE - 2 * PAD);
  const names = [...new Set(labels)].filter(Boolean).sort();
  const toneOf = (label: string): string => (label ? `tone-${Math.min(names.indexOf(label), TONES - 1)}` : "tone-none");
  return (
    <div class="stack">
      <div class="row small">
        {names.slice(0, TONES).map((name) => (
          <span key={name} class={`key ${toneOf(name)}`}>
            {name}
          </span>
        ))}
        {labels.slice(1).includes("") && <span class="key tone-none">{words.noLabel}</span>}
        <span class="key own">{words.yours}</span>
      </div>
      <svg class="plot scatter" viewBox={`0 0 ${SIDE} ${SIDE}`} role="img" aria-label={words.points}>
        <rect class="scatter-frame" x="0.5" y="0.5" width={SIDE - 1} height={SIDE - 1} rx="8" />
        {drift.frames[at].points
          .map(([x, y], index) => ({ x: place(x - left), y: SIDE - place(y - low), index }))
          .toReversed() // the user's own text lies on top
          .map(({ x, y, index }) => (
            <g
              key={index}
              class={`scatter-point ${index === 0 ? "own" : toneOf(labels[index])}`}
              style={{ transform: `translate(${x}px, ${y}px)` }}
            >
              <title>{`${drift.input[index]} (${index === 0 ? words.yours : labels[index] || words.noLabel})`}</title>
              <circle r={index === 0 ? 6 : 4.5} />
              {index === 0 && <circle class="ring" r="11" />}
            </g>
          ))}
      </svg>
    </div>
  );
}
