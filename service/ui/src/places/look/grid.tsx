// Every head of every layer in small, after BertViz' model view: where to look first.

import { useEffect, useRef } from "preact/hooks";
import type { Attention } from "../../api/attention";
import { useWords } from "../../base/language";
import { useStore } from "../../base/store";
import { paint } from "../../base/theme";
import { thumbnail } from "../../parts/palette";
import { lookWords } from "../../words/look";

const SIDE = 56;

interface GridProps {
  attention: Attention;
  layer: number; // places in the header's lists
  head: number;
  onPick: (layer: number, head: number) => void;
}

export function Grid({ attention, layer, head, onPick }: GridProps) {
  const words = useWords(lookWords);
  const { layers, heads } = attention.header;
  return (
    <div class="grid-frame" tabIndex={0} role="region" aria-label={words.views.grid}>
      <table class="heads">
        <thead>
          <tr>
            <td />
            {heads.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {layers.map((name, row) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              {heads.map((of, column) => (
                <td key={of}>
                  <button
                    type="button"
                    class="thumbnail"
                    aria-label={words.headName(name, of)}
                    aria-pressed={row === layer && column === head}
                    onClick={() => onPick(row, column)}
                  >
                    <Thumbnail attention={attention} layer={row} head={column} />
                  </button>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Thumbnail({ attention, layer, head }: { attention: Attention; layer: number; head: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const colours = useStore(paint);
  useEffect(() => {
    const task = setTimeout(() => {
      const context = canvas.current?.getContext("2d");
      if (!canvas.current || !context) return;
      const picture = thumbnail(attention.head(layer, head), SIDE);
      canvas.current.width = picture.width;
      canvas.current.height = picture.height;
      context.drawImage(picture, 0, 0);
    }); // a task each, so that a long text does not hold the page
    return () => clearTimeout(task);
  }, [attention, layer, head, colours]);
  return <canvas ref={canvas} aria-hidden="true" />;
}
