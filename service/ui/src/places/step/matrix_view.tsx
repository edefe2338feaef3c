// A matrix of real numbers: a colour each, written out where there is room; the one under the pointer is told.

import { useEffect, useRef, useState } from "preact/hooks";
import { figure, shortened } from "../../base/format";
import { useWords } from "../../base/language";
import { useStore } from "../../base/store";
import { colour, paint } from "../../base/theme";
import { signedImage } from "../../parts/palette";
import { stepWords } from "../../words/step";
import type { Matrix } from "./numbers";

interface MatrixViewProps {
  matrix: Matrix;
  label: string;
  shown?: number; // share of the rows that are there yet, 0 to 1
  small?: boolean;
  onCell?: (row: number, column: number) => string | null; // the arithmetic behind it
}

interface Sizes {
  left: number;
  top: number;
  cell: number;
  row: number;
}

const NUMBERS_FROM = 34; // pixels of a cell that hold a number

export function MatrixView({ matrix, label, shown = 1, small = false, onCell }: MatrixViewProps) {
  const words = useWords(stepWords);
  const canvas = useRef<HTMLCanvasElement>(null);
  const sizes = useRef<Sizes | null>(null);
  const [cell, choose] = useState<[number, number] | null>(null);
  const colours = useStore(paint);
  useEffect(() => {
    const place = canvas.current;
    if (!place) return;
    const draw = () =>
      void (sizes.current = drawMatrix(place, matrix, Math.ceil(shown * matrix.rows.length), small, cell));
    draw();
    const watch = new ResizeObserver(draw);
    watch.observe(place);
    return () => watch.disconnect();
  }, [matrix, shown, small, cell, colours]);
  const clamp = (row: number, column: number): [number, number] => [
    Math.max(0, Math.min(matrix.rows.length - 1, row)),
    Math.max(0, Math.min((matrix.rows[0]?.length ?? 1) - 1, column)),
  ];
  const point = (event: PointerEvent) => {
    if (!sizes.current) return;
    const { left, top, cell: wide, row: high } = sizes.current;
    const [row, column] = [Math.floor((event.offsetY - top) / high), Math.floor((event.offsetX - left) / wide)];
    const inside = row >= 0 && column >= 0 && row < matrix.rows.length && column < (matrix.rows[0]?.length ?? 0);
    if (!inside) choose(null);
    else if (row !== cell?.[0] || column !== cell[1]) choose([row, column]);
  };
  const key = (event: KeyboardEvent) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation(); // the player steps by the same keys
    choose(cell ? clamp(cell[0] + move[0], cell[1] + move[1]) : [0, 0]);
  };
  const said = () => {
    if (!cell) return " ";
    const [row, column] = cell;
    const name = matrix.columnNames?.[column] ?? words.column(column);
    const value = matrix.rows[row]?.[column];
    const worked = onCell?.(row, column);
    return words.value(matrix.rowNames[row] || label, name, worked ?? (value === null ? "−∞" : figure(value ?? NaN)));
  };
  return (
    <div class="matrix">
      <canvas
        ref={canvas}
        role="img"
        tabIndex={0}
        aria-label={label}
        onPointerMove={point}
        onPointerLeave={() => choose(null)}
        onBlur={() => choose(null)}
        onKeyDown={key}
      />
      <p class="readout number" aria-live="polite">
        {said()}
      </p>
    </div>
  );
}

function drawMatrix(
  canvas: HTMLCanvasElement,
  { rows, rowNames, columnNames, most }: Matrix,
  shown: number,
  small: boolean,
  chosen: [number, number] | null,
): Sizes {
  const context = canvas.getContext("2d");
  const width = canvas.clientWidth;
  const columns = rows[0]?.length ?? 0;
  const size = small ? 10 : 12;
  const face = getComputedStyle(canvas).fontFamily;
  if (!context || !width || !columns) return { left: 0, top: 0, cell: 1, row: 1 };
  context.font = `${size}px ${face}`;
  const widest = (names: readonly string[]): number =>
    Math.max(...names.map((name) => context.measureText(shortened(name, 14)).width));
  const left = Math.min(Math.ceil(widest(rowNames)) + 10, width * 0.3);
  const cell = Math.min(small ? 26 : 58, (width - left) / columns);
  const row = Math.max(small ? 8 : 12, Math.min(small ? 18 : 26, (small ? 240 : 460) / rows.length));
  const upright = columnNames !== null && widest(columnNames) > cell - 4;
  const top = columnNames ? (upright ? Math.min(widest(columnNames) + 8, 90) : size + 8) : 2;
  const ratio = devicePixelRatio || 1;
  const height = Math.ceil(top + row * rows.length + 2);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  const picture = signedImage(rows, most);
  if (shown > 0) context.drawImage(picture, 0, 0, columns, shown, left, top, cell * columns, row * shown);
  context.textBaseline = "middle";
  context.fillStyle = colour("muted");
  context.font = `${size}px ${face}`;
  context.textAlign = "right";
  if (row >= size)
    rowNames.forEach((name, index) =>
      context.fillText(shortened(name, 14), left - 6, top + (index + 0.5) * row, left - 6),
    );
  columnNames?.forEach((name, index) => {
    if (cell < size && index % Math.ceil(size / cell)) return;
    context.save();
    context.translate(left + (index + 0.5) * cell, top - 6);
    if (upright) context.rotate(-Math.PI / 2);
    context.textAlign = upright ? "left" : "center";
    context.fillText(shortened(name, 14), 0, upright ? 0 : -size / 2, upright ? top - 6 : cell);
    context.restore();
  });
  if (!small && cell >= NUMBERS_FROM && row >= 15) writeNumbers(context, rows, most, shown, left, top, cell, row, face);
  if (chosen) {
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.strokeRect(left + chosen[1] * cell, top + chosen[0] * row, cell, row);
  }
  return { left, top, cell, row };
}

function writeNumbers(
  context: CanvasRenderingContext2D,
  rows: readonly (readonly (number | null)[])[],
  most: number,
  shown: number,
  left: number,
  top: number,
  cell: number,
  row: number,
  face: string,
): void {
  context.textAlign = "center";
  context.font = `11px ${face}`;
  rows.slice(0, shown).forEach((values, down) =>
    values.forEach((value, across) => {
      const dark = value !== null && Math.abs(value) / most > 0.5;
      context.fillStyle = colour(dark ? "surface" : "ink");
      context.fillText(
        value === null ? "−∞" : figure(value),
        left + (across + 0.5) * cell,
        top + (down + 0.5) * row + 1,
        cell - 2,
      );
    }),
  );
}
