import { useEffect, useRef, useState } from "preact/hooks";
import { upload, type DataFile } from "../../api/files";
import { useWords } from "../../base/language";
import { Notice } from "../../parts/notice";
import { dataWords } from "../../words/data";

/** A place to drop a file on, which is also a button to choose one. */
export function Upload({ onDone }: { onDone: (file: DataFile) => void }) {
  const words = useWords(dataWords);
  const field = useRef<HTMLInputElement>(null);
  const [state, show] = useState<"idle" | "over" | "busy">("idle");
  const [problem, tell] = useState("");
  const left = useRef(false);
  useEffect(() => () => void (left.current = true), []);
  const send = async (file: File | undefined) => {
    if (!file) return;
    show("busy");
    tell("");
    try {
      const added = await upload(file);
      if (!left.current) onDone(added); // who has gone on is not called back
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error));
    }
    show("idle");
    if (field.current) field.current.value = "";
  };
  return (
    <div class="stack">
      <label
        class={`drop ${state}`}
        onDragOver={(event) => {
          event.preventDefault();
          show("over");
        }}
        onDragLeave={() => show("idle")}
        onDrop={(event) => {
          event.preventDefault();
          void send(event.dataTransfer?.files[0]);
        }}
      >
        <input
          ref={field}
          class="unseen"
          type="file"
          aria-label={words.drop}
          accept=".jsonl,.json,.csv,.parquet,.txt,.gz"
          onChange={(event) => void send(event.currentTarget.files?.[0])}
        />
        <span aria-hidden="true" class="drop-sign">
          ↥
        </span>
        <span role="status">{state === "busy" ? words.uploading : state === "over" ? words.dropping : words.drop}</span>
      </label>
      {problem && <Notice tone="bad">{problem}</Notice>}
    </div>
  );
}
