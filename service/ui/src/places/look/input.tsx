import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import { note } from "../../base/router";
import { Card } from "../../parts/card";
import { Field } from "../../parts/field";
import { lookWords } from "../../words/look";
import { CHINESE, EXAMPLES } from "../examples";

interface LookInputProps {
  title: string | null;
  models: readonly Model[];
  model: Model | null; // null: there is none of the name asked for
  text: string;
  names: readonly [string, string]; // of model and text in the address
  comparable?: boolean;
}

/** Which model, which text. */
export function LookInput({ title, models, model, text, names, comparable = true }: LookInputProps) {
  const words = useWords(lookWords);
  const [modelName, textName] = names;
  const comparing = title !== null;
  return (
    <Card title={title ?? undefined}>
      <div class="look-input">
        <Field name={words.model}>
          <select
            value={model?.id ?? ""}
            onChange={(event) => note({ [modelName]: event.currentTarget.value, target: null })}
          >
            {!model && (
              <option value="" disabled>
                {words.choose}
              </option>
            )}
            {models.map((one) => (
              <option key={one.id} value={one.id}>
                {one.aliases.length ? `${one.aliases[0]} · ${one.id}` : one.id}
              </option>
            ))}
          </select>
        </Field>
        <Field name={words.text} hint={words.textHint}>
          <textarea
            rows={2}
            spellcheck={false}
            value={text}
            onInput={(event) => note({ [textName]: event.currentTarget.value || " " })}
          />
        </Field>
        <div class="row export-no" role="group" aria-label={words.examples}>
          {EXAMPLES.map((example) => (
            <button key={example} type="button" class="chip" onClick={() => note({ [textName]: example })}>
              {example}
            </button>
          ))}
          <button type="button" class="chip" onClick={() => note({ [textName]: CHINESE })}>
            {words.chinese}
          </button>
          {comparable && !comparing && (
            <button
              type="button"
              class="button tiny"
              onClick={() => note({ text2: EXAMPLES[1] === text ? EXAMPLES[0] : EXAMPLES[1] })}
            >
              {words.compare}
            </button>
          )}
          {textName === "text2" && (
            <button type="button" class="button tiny" onClick={() => note({ text2: null, model2: null })}>
              {words.stopComparing}
            </button>
          )}
        </div>
      </div>
    </Card>
  );
}
