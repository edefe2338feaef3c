import { useState } from "preact/hooks";
import { promote, type Model } from "../../api/models";
import { useWords } from "../../base/language";
import { headlineOf } from "../../base/metric";
import { Notice } from "../../parts/notice";
import { figureWords, nameOfFigure } from "../../words/figures";
import { modelsWords } from "../../words/models";

/** Makes a name stand for this model, past a gate if one is wanted. */
export function PromoteForm({ model }: { model: Model }) {
  const words = useWords(modelsWords);
  const names = useWords(figureWords);
  const [said, tell] = useState<{ tone: "good" | "bad"; text: string } | null>(null);
  const metric = headlineOf(model.metrics)?.metric;
  const send = (event: SubmitEvent) => {
    event.preventDefault();
    if (!(event.currentTarget instanceof HTMLFormElement)) return;
    const form = new FormData(event.currentTarget);
    const name = String(form.get("alias") ?? "").trim();
    promote(model.id, name, form.get("gate") && metric ? metric.key : null, true).then(
      () => tell({ tone: "good", text: words.promoted }),
      (error: unknown) => tell({ tone: "bad", text: error instanceof Error ? error.message : String(error) }),
    );
  };
  return (
    <form class="row bottom promote" onSubmit={send}>
      <label class="field">
        <span class="field-name">{words.promoteAs}</span>
        <input
          name="alias"
          required
          maxLength={63}
          pattern="[A-Za-z0-9._\-]+"
          placeholder="movie-sentiment"
          defaultValue={model.aliases[0] ?? ""}
        />
      </label>
      <button class="button">{words.promote}</button>
      {metric?.higher_is_better && (
        <label class="check">
          <input type="checkbox" name="gate" />
          {words.gate(nameOfFigure(names, metric.key))}
        </label>
      )}
      {said && <Notice tone={said.tone}>{said.text}</Notice>}
    </form>
  );
}
