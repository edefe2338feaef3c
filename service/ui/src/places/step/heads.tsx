import { useEffect, useRef } from "preact/hooks";
import type { Trace } from "../../api/trace";
import { useWords } from "../../base/language";
import { useStore } from "../../base/store";
import { paint } from "../../base/theme";
import { signedImage } from "../../parts/palette";
import { stepWords } from "../../words/step";
import { matrixOf, numHeads } from "./numbers";
import type { Placed } from "./sequence";

interface HeadsProps {
  trace: Trace;
  at: Placed;
  head: number;
  onHead: (head: number) => void;
}

/** All heads of a step in small; choosing one zooms in. */
export function Heads({ trace, at, head, onHead }: HeadsProps) {
  const words = useWords(stepWords);
  return (
    <div class="stack">
      <p class="small muted">{words.heads}</p>
      <div class="step-heads">
        {Array.from({ length: numHeads(at) }, (_, index) => (
          <button
            key={index}
            type="button"
            class="thumbnail"
            aria-pressed={index === head}
            aria-label={words.zoomed(index)}
            onClick={() => onHead(index)}
          >
            <Small trace={trace} at={at} head={index} />
            <span aria-hidden="true">{index}</span>
          </button>
        ))}
      </div>
    </div>
  );
}

function Small({ trace, at, head }: { trace: Trace; at: Placed; head: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const colours = useStore(paint);
  useEffect(() => {
    const matrix = matrixOf(at, head, trace);
    const context = canvas.current?.getContext("2d");
    if (!canvas.current || !context || !matrix) return;
    const picture = signedImage(matrix.rows, matrix.most);
    canvas.current.width = picture.width;
    canvas.current.height = picture.height;
    context.drawImage(picture, 0, 0);
  }, [trace, at, head, colours]);
  return <canvas ref={canvas} aria-hidden="true" />;
}
