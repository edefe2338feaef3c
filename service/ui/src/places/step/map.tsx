// The model's steps as a diagram down the page, drawn from the trace itself: what each is made from are its lines.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Trace } from "../../api/trace";
import { useWords } from "../../base/language";
import { stepWords } from "../../words/step";
import { keyOf, rowsOf, type Part, type Placed } from "./sequence";

interface MapProps {
  trace: Trace;
  stages: readonly Placed[];
  layer: number;
  current: string; // key of a step
  onChoose: (key: string) => void;
  onLayer: (layer: number) => void;
}

const [WIDTH, NODE, GAP, PAD, HEADING] = [296, 26, 15, 26, 24];

interface Box {
  x: number;
  y: number;
  width: number;
}

export function StepMap({ trace, stages, layer, current, onChoose, onLayer }: MapProps) {
  const words = useWords(stepWords);
  const frame = useRef<SVGSVGElement>(null);
  const boxes = new Map<Placed, Box>();
  const headings: { text: string; y: number; top: number; part: Part }[] = [];
  const { num_layers: numLayers } = trace.config;
  let y = 4;
  for (const part of ["in", layer, "out"] as const) {
    const rows = rowsOf(stages.filter((one) => one.part === part));
    if (!rows.length) continue;
    const top = y;
    headings.push({
      text: part === "in" ? words.input : part === "out" ? words.output : words.layerOf(layer, numLayers),
      y: y + 15,
      top,
      part,
    });
    y += HEADING;
    for (const row of rows) {
      const width = (WIDTH - 2 * PAD - 8 * (row.length - 1)) / row.length;
      row.forEach((one, index) => boxes.set(one, { x: PAD + index * (width + 8), y, width }));
      y += NODE + GAP;
    }
    y += part === "out" ? 0 : 12;
  }
  useEffect(() => {
    const node = frame.current?.querySelector<SVGElement>("[aria-current]");
    const place = frame.current?.parentElement;
    if (!node || !place) return;
    const [inner, outer] = [node.getBoundingClientRect(), place.getBoundingClientRect()];
    if (inner.top < outer.top + 30 || inner.bottom > outer.bottom - 30)
      place.scrollTop += inner.top - outer.top - outer.height / 2;
  }, [current]);
  return (
    <div class="step-map" tabIndex={0} role="region" aria-label={words.map}>
      <svg ref={frame} viewBox={`0 0 ${WIDTH} ${y}`}>
        {headings.map(({ text, y: at, top, part }) => (
          <g key={text}>
            {typeof part === "number" && (
              <rect class="step-layer" x="6" y={top} width={WIDTH - 12} height={heightOf(boxes, part) - top} rx="8" />
            )}
            <text class="step-heading" x={PAD} y={at}>
              {text}
            </text>
            {typeof part === "number" && (
              <>
                <LayerButton
                  x={WIDTH - 66}
                  y={top + 4}
                  sign="−"
                  name={`${words.layer} ${layer - 1}`}
                  off={layer === 0}
                  onClick={() => onLayer(layer - 1)}
                />
                <LayerButton
                  x={WIDTH - 40}
                  y={top + 4}
                  sign="+"
                  name={`${words.layer} ${layer + 1}`}
                  off={layer === numLayers - 1}
                  onClick={() => onLayer(layer + 1)}
                />
              </>
            )}
          </g>
        ))}
        {[...boxes].map(([one, box]) =>
          one.inputs.map((input) => {
            const from = boxes.get(input) ?? lastBefore(boxes, one, layer);
            return (
              from && (
                <path
                  key={`${keyOf(input)}-${keyOf(one)}`}
                  class={keyOf(one) === current ? "step-edge live" : "step-edge"}
                  d={edge(from, box)}
                />
              )
            );
          }),
        )}
        {[...boxes].map(([one, box]) => {
          const key = keyOf(one);
          return (
            <Node key={key} box={box} here={key === current} onClick={() => onChoose(key)}>
              {words.stages[one.name]?.name ?? one.name}
            </Node>
          );
        })}
      </svg>
    </div>
  );
}

function heightOf(boxes: Map<Placed, Box>, layer: number): number {
  return Math.max(...[...boxes].filter(([one]) => one.part === layer).map(([, box]) => box.y + NODE + 8));
}

/** A layer that is not drawn lies between: what comes from there is drawn from the end of what stands above. */
function lastBefore(boxes: Map<Placed, Box>, one: Placed, layer: number): Box | undefined {
  const above = [...boxes].filter(([other]) => (one.part === layer ? other.part === "in" : other.part === layer));
  return above.at(-1)?.[1];
}

function edge(from: Box, to: Box): string {
  const [x1, y1, x2, y2] = [from.x + from.width / 2, from.y + NODE, to.x + to.width / 2, to.y];
  if (y2 - y1 < 2 * GAP + 30) return `M${x1} ${y1} C${x1} ${y1 + 9} ${x2} ${y2 - 9} ${x2} ${y2}`;
  const side = WIDTH - 14; // past what lies between: a residual
  return `M${from.x + from.width} ${y1 - NODE / 2} Q${side} ${y1 - NODE / 2} ${side} ${y1 + 8} V${y2 + NODE / 2 - 18} Q${side} ${y2 + NODE / 2} ${to.x + to.width} ${y2 + NODE / 2}`;
}

interface NodeProps {
  box: Box;
  here: boolean;
  onClick: () => void;
  children: ComponentChildren;
}

function Node({ box, here, onClick, children }: NodeProps) {
  return (
    <g
      class="step-node"
      role="button"
      tabIndex={0}
      aria-current={here ? "step" : undefined}
      onClick={onClick}
      onKeyDown={(event) => {
        if (event.key === "Enter") onClick();
      }}
    >
      <rect x={box.x} y={box.y} width={box.width} height={NODE} rx="6" />
      <text x={box.x + box.width / 2} y={box.y + NODE / 2 + 4} text-anchor="middle">
        {children}
      </text>
    </g>
  );
}

interface LayerButtonProps {
  x: number;
  y: number;
  sign: string;
  name: string;
  off: boolean;
  onClick: () => void;
}

function LayerButton({ x, y, sign, name, off, onClick }: LayerButtonProps) {
  if (off) return null;
  return (
    <g
      class="step-node"
      role="button"
      tabIndex={0}
      aria-label={name}
      onClick={onClick}
      onKeyDown={(event) => event.key === "Enter" && onClick()}
    >
      <rect x={x} y={y} width="20" height="17" rx="4" />
      <text x={x + 10} y={y + 13} text-anchor="middle">
        {sign}
      </text>
    </g>
  );
}
