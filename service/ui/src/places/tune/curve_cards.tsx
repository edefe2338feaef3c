import { useMemo } from "preact/hooks";
import type { JobEvent } from "../../api/jobs";
import { figure } from "../../base/format";
import { useWords } from "../../base/language";
import { metricOf } from "../../base/metric";
import { Card } from "../../parts/card";
import { Chart, type Line } from "../../parts/chart";
import { TableBehind } from "../../parts/table";
import { tuneWords } from "../../words/tune";
import { curve, figureNames, line, readable } from "./curves";

/** Loss, held-out figures, learning rate, gradient norm, speed: as they come. */
export function Curves({ events }: { events: readonly JobEvent[] }) {
  const words = useWords(tuneWords);
  const drawn = useMemo(() => {
    const one = (name: string, shown: string): Line[] => [line(shown, curve(events, name), 0)];
    const heldOut = (higherIsBetter: boolean): Line[] =>
      figureNames(events)
        .filter((name) => metricOf(name.replace("valid_", "")).higher_is_better === higherIsBetter)
        .map((name, index) => line(readable(name), curve(events, name), index, { dots: true }));
    return {
      loss: [
        line(words.trainLoss, curve(events, "train_loss"), 0),
        line(words.validLoss, curve(events, "valid_loss"), 1, { dots: true }),
      ],
      figures: heldOut(true),
      errors: heldOut(false),
      rate: one("learning_rate", words.rateTitle),
      norm: one("gradient_norm", words.norm),
      speed: one("tokens_per_second", words.speed),
    };
  }, [events, words]);
  if (!drawn.loss[0].points.length && !drawn.loss[1].points.length)
    return (
      <p class="blank" role="status">
        {words.waiting}
      </p>
    );
  return (
    <div class="stack">
      <div class="columns">
        <CurveCard title={words.loss} note={words.lossNote} lines={drawn.loss} height={230} />
        <CurveCard title={words.accuracy} note={words.accuracyNote} lines={drawn.figures} height={230} />
        {drawn.errors.length > 0 && (
          <CurveCard title={words.heldOutError} note={words.heldOutErrorNote} lines={drawn.errors} height={230} />
        )}
      </div>
      <div class="columns three">
        <CurveCard title={words.rateTitle} note={words.rateNote} lines={drawn.rate} height={140} />
        <CurveCard title={words.norm} note={words.normNote} lines={drawn.norm} height={140} />
        <CurveCard title={words.speed} note={words.speedNote} lines={drawn.speed} height={140} />
      </div>
    </div>
  );
}

interface CurveCardProps {
  title: string;
  note: string;
  lines: Line[];
  height: number;
}

function CurveCard({ title, note, lines, height }: CurveCardProps) {
  const words = useWords(tuneWords);
  const filled = lines.filter((one) => one.points.length);
  return (
    <Card title={title} note={note}>
      {filled.length > 0 ? (
        <>
          <Chart lines={filled} xName={words.step} label={title} height={height} />
          <TableBehind
            label={title}
            columns={[{ name: words.option }, { name: words.step, right: true }, { name: words.value, right: true }]}
            rows={filled.flatMap((one) => one.points.map(([step, value]) => [one.name, step, figure(value)]))}
          />
        </>
      ) : (
        <p class="blank">{words.waitingHeldOut}</p>
      )}
    </Card>
  );
}
