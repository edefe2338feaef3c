import { useState } from "preact/hooks";
import { useWords } from "../base/language";
import { KINDS, snippet, type Asked, type Kind } from "../base/snippets";
import { shellWords } from "../words/shell";
import { Choice } from "./choice";

/** How to send the same without the page. */
export function Snippets({ asked }: { asked: Asked }) {
  const words = useWords(shellWords);
  const [kind, choose] = useState<Kind>("curl");
  const [copied, tell] = useState("");
  const text = snippet(kind, location.origin, asked);
  const copy = () => void navigator.clipboard?.writeText(text).then(() => tell(text));
  return (
    <div class="stack snippets">
      <div class="row">
        <Choice name={words.byCode} options={KINDS} value={kind} onChange={choose} />
        <button type="button" class="button tiny" onClick={copy}>
          {copied === text ? words.copied : words.copy}
        </button>
      </div>
      <pre class="code" tabIndex={0} aria-label={kind}>
        {text}
      </pre>
    </div>
  );
}

/** The same behind a line, where the request is not the point. */
export function SnippetsBehind({ asked }: { asked: Asked }) {
  const words = useWords(shellWords);
  return (
    <details class="behind export-no">
      <summary>{words.byCode}</summary>
      <Snippets asked={asked} />
    </details>
  );
}
