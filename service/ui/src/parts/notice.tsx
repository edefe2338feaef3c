import type { ComponentChildren } from "preact";
import { useWords } from "../base/language";
import type { Loaded } from "../base/load";
import { shellWords } from "../words/shell";

interface NoticeProps {
  tone?: "bad" | "warn" | "good" | "";
  children: ComponentChildren;
}

export function Notice({ tone = "", children }: NoticeProps) {
  return (
    <div class={`notice ${tone}`} role={tone === "bad" ? "alert" : undefined}>
      {children}
    </div>
  );
}

interface WaitingProps<T> {
  loaded: Loaded<T>;
  children: (value: T) => ComponentChildren;
}

/** What was loaded; or that it is on its way, or why it did not come. */
export function Waiting<T>({ loaded, children }: WaitingProps<T>) {
  const words = useWords(shellWords);
  if (loaded.error)
    return (
      <Notice tone="bad">
        <p>{loaded.error.message}</p>
        <p>
          <button type="button" class="button tiny" onClick={loaded.again}>
            {words.retry}
          </button>
        </p>
      </Notice>
    );
  if (loaded.value === null)
    return loaded.busy ? (
      <p class="blank" role="status">
        {words.loading}
      </p>
    ) : null;
  return <>{children(loaded.value)}</>;
}
