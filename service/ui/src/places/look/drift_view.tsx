import { useEffect, useMemo, useState } from "preact/hooks";
import type { Drift, Frame } from "../../api/drift";
import { figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { TableBehind } from "../../parts/table";
import { driftWords } from "../../words/drift";
import { MatrixView } from "../step/matrix_view";
import { Scatter } from "./scatter";

const STAGE_MS = 1600;

interface DriftViewProps {
  drift: Drift;
  labels: readonly string[];
  single: boolean; // one model by itself
}

/** One stage of the training after another, by slider or played. */
export function DriftView({ drift, labels, single }: DriftViewProps) {
  const words = useWords(driftWords);
  const last = single ? 0 : drift.frames.length - 1;
  const [at, go] = useState(last);
  const [playing, play] = useState(false);
  useEffect(() => {
    if (!playing) return;
    if (at >= last) {
      play(false);
      return;
    }
    const timer = setTimeout(() => go(at + 1), STAGE_MS);
    return () => clearTimeout(timer);
  }, [playing, at, last]);
  const frame = drift.frames[Math.min(at, last)];
  const nameOf = ({ step }: Frame): string => (step === 0 ? words.base : step === null ? words.done : words.step(step));
  const start = () => {
    if (!playing && at >= last) go(0);
    play(!playing);
  };
  return (
    <div class="stack">
      {!single && (
        <div class="player export-no" role="group" aria-label={words.stage}>
          <button type="button" class="button main player-play" onClick={start}>
            {playing ? `❚❚ ${words.pause}` : `▶ ${words.play}`}
          </button>
          <input
            type="range"
            min="0"
            max={last}
            value={at}
            aria-label={words.stage}
            aria-valuetext={nameOf(frame)}
            onInput={(event) => go(Number(event.currentTarget.value))}
          />
          <strong class="nowrap">{nameOf(frame)}</strong>
        </div>
      )}
      <p class="small muted" role="status">
        {words.plane(percent(drift.shown, 0))} {frame.moved > 0.0005 && !single && words.moved(percent(frame.moved, 0))}
      </p>
      <div class="columns">
        <Scatter drift={drift} at={Math.min(at, last)} labels={labels} />
        <LastAttention frame={frame} />
      </div>
      <TableBehind
        label={words.points}
        columns={[
          { name: words.text },
          { name: words.label },
          { name: words.answer },
          { name: words.across, right: true },
          { name: words.up, right: true },
        ]}
        rows={drift.input.map((text, index) => [
          text,
          index === 0 ? words.yours : labels[index] || "–",
          frame.predictions[index] ?? "–",
          ...frame.points[index].map((value) => figure(value)),
        ])}
      />
    </div>
  );
}

function LastAttention({ frame }: { frame: Frame }) {
  const words = useWords(driftWords);
  const { tokens, weights } = frame.attention;
  const matrix = useMemo(
    () => ({
      rows: weights,
      rowNames: tokens,
      columnNames: tokens,
      whole: tokens.length,
      most: Math.max(...weights.flat()),
    }),
    [frame],
  );
  return (
    <div class="stack">
      <h3>{words.attention}</h3>
      <MatrixView matrix={matrix} label={words.attention} />
    </div>
  );
}
