// The training rows by how sure the model was of their labels and how much it wavered (Swayamdipta et al. 2020).

import { useEffect, useRef } from "preact/hooks";
import { figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { useStore } from "../../base/store";
import { colour, paint } from "../../base/theme";
import { Card } from "../../parts/card";
import { TableBehind } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";

type Point = [number, number, number]; // wavering, sureness, share of epochs in which it was right

const [LEFT, BOTTOM, TOP] = [42, 30, 8];
const TABLE_ROWS = 200;

export function TrainingMap({ points }: { points: Point[] }) {
  const words = useWords(evaluateWords);
  const canvas = useRef<HTMLCanvasElement>(null);
  const colours = useStore(paint);
  useEffect(() => {
    const place = canvas.current;
    if (!place) return;
    const draw = () => drawPoints(place, points, words.variability);
    draw();
    const watch = new ResizeObserver(draw);
    watch.observe(place);
    return () => watch.disconnect();
  }, [points, colours, words]);
  return (
    <Card title={words.map} note={words.mapNote}>
      <canvas ref={canvas} class="training-map" role="img" aria-label={words.mapNote} />
      <TableBehind
        label={words.map}
        columns={[words.variability, words.certainty, words.accuracy].map((name) => ({ name, right: true }))}
        rows={points
          .slice(0, TABLE_ROWS)
          .map(([variability, confidence, right]) => [figure(variability), percent(confidence), percent(right, 0)])}
      />
    </Card>
  );
}

function drawPoints(canvas: HTMLCanvasElement, points: readonly Point[], xName: string): void {
  const context = canvas.getContext("2d");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!context || !width) return;
  const ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  context.scale(ratio, ratio);
  context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
  const widest = Math.max(...points.map(([variability]) => variability), 0.05);
  const x = (variability: number): number => LEFT + 6 + (variability / widest) * (width - LEFT - 14);
  const y = (confidence: number): number => TOP + (1 - confidence) * (height - TOP - BOTTOM);
  context.strokeStyle = colour("line");
  context.fillStyle = colour("muted");
  for (const share of [0, 0.5, 1]) {
    context.beginPath();
    context.moveTo(LEFT, y(share));
    context.lineTo(width, y(share));
    context.stroke();
    context.textAlign = "right";
    context.fillText(percent(share, 0), LEFT - 6, y(share) + 4);
  }
  context.fillText(`${xName} → ${figure(widest)}`, width - 4, height - 8);
  context.globalAlpha = 0.45;
  for (const [variability, confidence, right] of points) {
    context.fillStyle = colour(right > 0.5 ? "accent" : "second");
    context.beginPath();
    context.arc(x(variability), y(confidence), 2.2, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
}
