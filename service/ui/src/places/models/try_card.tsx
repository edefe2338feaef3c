import { useState } from "preact/hooks";
import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import { useSettled } from "../../base/load";
import { Card } from "../../parts/card";
import { Field } from "../../parts/field";
import { modelsWords } from "../../words/models";
import { EXAMPLES } from "../examples";
import { Answer } from "../look/answer";

const PAUSE_MS = 400;

/** A text in, the model's answer out. */
export function TryCard({ model }: { model: Model }) {
  const words = useWords(modelsWords);
  const [text, write] = useState<string>(EXAMPLES[0]);
  const settled = useSettled(text, PAUSE_MS);
  return (
    <Card title={words.tryIt} note={words.tryNote}>
      <div class="stack">
        <Field name={words.text}>
          <textarea rows={2} value={text} onInput={(event) => write(event.currentTarget.value)} />
        </Field>
        {settled.trim() && <Answer model={model} text={settled} />}
      </div>
    </Card>
  );
}
