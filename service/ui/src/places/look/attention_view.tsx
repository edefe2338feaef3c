// The attention of one text: one head as a heatmap or as lines, or all heads in small; with a table behind.

import { useEffect, useMemo, useState } from "preact/hooks";
import { attentionPicture, type Attention, type Head } from "../../api/attention";
import { useAttempt } from "../../base/attempt";
import { figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { save } from "../../export/menu";
import { Notice } from "../../parts/notice";
import { TableBehind } from "../../parts/table";
import { lookWords } from "../../words/look";
import { Grid } from "./grid";
import { Heatmap } from "./heatmap";
import type { Cell } from "./heatmap_drawing";
import { Lines } from "./lines";
import type { LookOptions } from "./options";

interface AttentionViewProps {
  attention: Attention;
  model: string;
  text: string;
  options: LookOptions;
  stretch: boolean;
  onPick: (layer: number, head: number) => void; // places in the header's lists
}

const STRONGEST = 40;

export function AttentionView({ attention, model, text, options, stretch, onPick }: AttentionViewProps) {
  const words = useWords(lookWords);
  const { header } = attention;
  const layer = Math.min(options.layer, header.layers.length - 1);
  const place = Math.min(options.head, header.heads.length - 1);
  const head = useMemo(() => attention.head(layer, place), [attention, layer, place]);
  const names = useMemo(() => header.units.map((unit) => unit.text), [attention]);
  const [cell, choose] = useState<Cell | null>(null);
  const [painted, tell] = useState<number | null>(null);
  const [problem, attempt] = useAttempt();
  useEffect(() => choose(null), [attention]);
  const name = words.headName(header.layers[layer], header.heads[place]);
  const most = stretch || !header.rows_sum_to_one ? head.largest || 1 : 1;
  const removed = header.removed_mass[layer]?.[place] ?? 0;
  if (options.view === "grid")
    return (
      <div class="stack">
        <p class="small muted">{words.gridHelp}</p>
        <Grid attention={attention} layer={layer} head={place} onPick={onPick} />
      </div>
    );
  const picture = (all: boolean, kind: "png" | "svg") => async () => {
    const chosen = all || header.heads[0] === "all" ? null : { layers: [header.layers[layer]], heads: [place] };
    const blob = await attentionPicture(model, text, options, chosen, kind === "png" ? "image/png" : "image/svg+xml");
    save(blob, `attention${all ? "" : `-${header.layers[layer]}-${header.heads[place]}`}.${kind}`);
  };
  return (
    <div class="stack">
      <div class="row spread">
        <h3>{name}</h3>
        <p class="readout number" aria-live="polite">
          {cell ? words.readout(names[cell.from], names[cell.to], head.weight(cell.from, cell.to).toFixed(3)) : " "}
        </p>
      </div>
      {options.view === "heatmap" ? (
        <Heatmap
          head={head}
          names={names}
          most={most}
          label={`${name}. ${words.heatHelp}`}
          cell={cell}
          onCell={choose}
          onPainted={tell}
        />
      ) : (
        <Lines
          head={head}
          names={names}
          label={`${name}. ${words.linesHelp}`}
          from={cell?.from ?? null}
          onFrom={(from) => choose(from === null ? null : { from, to: strongestOf(head, from) })}
          onPainted={tell}
        />
      )}
      <p class="small muted">
        {options.view === "heatmap" ? words.heatHelp : words.linesHelp}{" "}
        {removed > 0.0005 && words.removed(percent(removed))}
      </p>
      <div class="row export-no">
        <button type="button" class="button tiny" onClick={() => attempt(picture(false, "png"))}>
          {words.png}
        </button>
        <button type="button" class="button tiny" onClick={() => attempt(picture(false, "svg"))}>
          {words.svg}
        </button>
        <button type="button" class="button tiny" onClick={() => attempt(picture(true, "png"))}>
          {words.all}
        </button>
        <span class="small muted number" data-painted={painted?.toFixed(1)}>
          {painted !== null && words.painted(painted.toFixed(1))}
        </span>
      </div>
      {problem && <Notice tone="bad">{problem}</Notice>}
      <TableBehind
        label={words.strongest}
        columns={[{ name: words.from }, { name: words.to }, { name: words.weight, right: true }]}
        rows={strongest(head).map(({ from, to }) => [names[from], names[to], figure(head.weight(from, to))])}
      />
    </div>
  );
}

function strongestOf(head: Head, from: number): number {
  let best = 0;
  for (let to = 1; to < head.size; to += 1) if (head.weight(from, to) > head.weight(from, best)) best = to;
  return best;
}

function strongest(head: Head): Cell[] {
  const cells: Cell[] = [];
  for (let from = 0; from < head.size; from += 1)
    for (let to = 0; to < head.size; to += 1) if (head.weight(from, to) > 0.01 * head.largest) cells.push({ from, to });
  return cells.sort((a, b) => head.weight(b.from, b.to) - head.weight(a.from, a.to)).slice(0, STRONGEST);
}
