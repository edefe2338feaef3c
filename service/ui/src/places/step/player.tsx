// Plays the steps: by buttons, by a slider, by keys.

import { useEffect } from "preact/hooks";
import { useWords } from "../../base/language";
import { stepWords } from "../../words/step";

export const SPEEDS = [0.5, 1, 2, 4] as const;
export type Speed = (typeof SPEEDS)[number];

interface PlayerProps {
  index: number;
  count: number;
  playing: boolean;
  speed: Speed;
  onPlay: (playing: boolean) => void;
  onStep: (index: number) => void;
  onSpeed: (speed: Speed) => void;
}

export function Player({ index, count, playing, speed, onPlay, onStep, onSpeed }: PlayerProps) {
  const words = useWords(stepWords);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      const inField =
        event.target instanceof Element && event.target.closest("textarea, select, input, [contenteditable]");
      const onButton = event.target instanceof Element && event.target.closest("button, summary, a");
      if (inField || event.ctrlKey || event.metaKey || event.altKey) return;
      const at = SPEEDS.indexOf(speed);
      const acts: Record<string, (() => void) | undefined> = {
        " ": onButton ? undefined : () => onPlay(!playing),
        ArrowRight: () => onStep(index + 1),
        ArrowLeft: () => onStep(index - 1),
        Home: () => onStep(0),
        End: () => onStep(count - 1),
        "+": () => onSpeed(SPEEDS[Math.min(at + 1, SPEEDS.length - 1)]),
        "-": () => onSpeed(SPEEDS[Math.max(at - 1, 0)]),
      };
      const act = acts[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, [index, count, playing, speed, onPlay, onStep, onSpeed]);
  return (
    <div class="player export-no" role="group" aria-label={words.title}>
      <button
        type="button"
        class="button"
        aria-label={words.back}
        disabled={index === 0}
        onClick={() => onStep(index - 1)}
      >
        ◂
      </button>
      <button type="button" class="button main player-play" onClick={() => onPlay(!playing)}>
        {playing ? `❚❚ ${words.pause}` : `▶ ${words.play}`}
      </button>
      <button
        type="button"
        class="button"
        aria-label={words.next}
        disabled={index === count - 1}
        onClick={() => onStep(index + 1)}
      >
        ▸
      </button>
      <input
        type="range"
        min="0"
        max={count - 1}
        value={index}
        aria-label={words.progress}
        aria-valuetext={words.of(index + 1, count)}
        onInput={(event) => onStep(Number(event.currentTarget.value))}
      />
      <span class="number small nowrap muted">{words.of(index + 1, count)}</span>
      <select
        class="short"
        aria-label={words.speed}
        value={speed}
        onChange={(event) => onSpeed(SPEEDS.find((one) => one === Number(event.currentTarget.value)) ?? 1)}
      >
        {SPEEDS.map((one) => (
          <option key={one} value={one}>
            {one}×
          </option>
        ))}
      </select>
    </div>
  );
}
