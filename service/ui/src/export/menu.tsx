import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useAttempt } from "../base/attempt";
import { useWords } from "../base/language";
import { allLoaded } from "../base/load";
import { Notice } from "../parts/notice";
import { shellWords } from "../words/shell";
import { asHtml, asPng, asSvg } from "./snapshot";

interface ExportMenuProps {
  view: RefObject<HTMLElement | null>;
  name: string;
}

/** Saves what is seen as one HTML file, SVG or PNG, once it is all there. */
export function ExportMenu({ view, name }: ExportMenuProps) {
  const words = useWords(shellWords);
  const [open, show] = useState(false);
  const [waiting, wait] = useState(false);
  const [problem, attempt] = useAttempt();
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      const inside = event.target instanceof Node && frame.current?.contains(event.target);
      if (!inside || (event instanceof KeyboardEvent && event.key === "Escape")) show(false);
    };
    document.addEventListener("pointerdown", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("pointerdown", close);
      document.removeEventListener("keydown", close);
    };
  }, [open]);
  const saver = (make: (element: HTMLElement) => Promise<Blob>, ending: string) => async () => {
    show(false);
    wait(true);
    await allLoaded();
    wait(false);
    try {
      if (view.current) save(await make(view.current), `${name}.${ending}`);
    } catch (error) {
      show(true); // why is told there
      throw error;
    }
  };
  return (
    <div class="pop" ref={frame}>
      <button
        type="button"
        class="button"
        aria-expanded={open}
        disabled={waiting}
        title={words.exportLabel}
        onClick={() => show(!open)}
      >
        {waiting ? words.loading : words.export}
      </button>
      {open && (
        <div class="pop-list">
          {problem && (
            <Notice tone="bad">
              {words.error}: {problem}
            </Notice>
          )}
          <button type="button" class="tool" onClick={() => attempt(saver(asHtml, "html"))}>
            {words.exportHtml}
          </button>
          <button type="button" class="tool" onClick={() => attempt(saver(asSvg, "svg"))}>
            {words.exportSvg}
          </button>
          <button type="button" class="tool" onClick={() => attempt(saver(asPng, "png"))}>
            {words.exportPng}
          </button>
        </div>
      )}
    </div>
  );
}

export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000); // the browser reads it after this task
}
