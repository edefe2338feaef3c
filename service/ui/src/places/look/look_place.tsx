// Look inside: one text in one model, or two of them side by side.

import { useEffect, useState } from "preact/hooks";
import { models, named, seen, type Model } from "../../api/models";
import { useWords } from "../../base/language";
import { useLoad, useSettled } from "../../base/load";
import { note, pathTo, useAddress } from "../../base/router";
import { Card } from "../../parts/card";
import { Notice, Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { lookWords } from "../../words/look";
import { EXAMPLES } from "../examples";
import { AttentionOptions } from "./attention_options";
import { Differences } from "./differences";
import { DriftCard } from "./drift_card";
import { LookInput } from "./input";
import { optionsOf } from "./options";
import { Panel } from "./panel";

const PAUSE_MS = 400; // of typing, before the model is asked

export function LookPlace() {
  const words = useWords(lookWords);
  const { query } = useAddress();
  const loaded = useLoad("models", models);
  const model = query.get("model");
  const text = query.get("text") ?? EXAMPLES[0];
  return (
    <PlaceFrame
      title={words.title}
      lead={words.lead}
      name="look-inside"
      tools={
        <a class="button" href={pathTo("step", null, { model, text })}>
          {words.toStep}
        </a>
      }
    >
      <Waiting loaded={loaded}>
        {(all) => (seen(all).length ? <Looking models={seen(all)} /> : <Notice>{words.noModel}</Notice>)}
      </Waiting>
    </PlaceFrame>
  );
}

function Looking({ models: all }: { models: Model[] }) {
  const words = useWords(lookWords);
  const { query } = useAddress();
  const options = optionsOf(query);
  const [stretch, setStretch] = useState(true);
  const comparing = query.has("text2");
  const side = (name: string | null, text: string) => ({ name, model: wanted(all, name), text });
  const first = side(query.get("model"), query.get("text") ?? EXAMPLES[0]);
  const second = side(query.get("model2") ?? first.name, query.get("text2") ?? "");
  const shape = first.model ?? second.model; // of the layers and heads to choose from
  const texts = [useSettled(first.text, PAUSE_MS), useSettled(second.text, PAUSE_MS)];
  useHeadKeys(shape, options.layer, options.head);
  const panel = ({ name, model }: { name: string | null; model: Model | null }, text: string) =>
    !model ? (
      <Notice tone="bad">{words.notThere(name ?? "")}</Notice>
    ) : text.trim() ? (
      <Panel
        model={model}
        text={text}
        options={options}
        compared={comparing}
        stretch={stretch}
        onStretch={setStretch}
        onPick={(layer, head) => note({ layer, head, view: "heatmap" })}
      />
    ) : null;
  return (
    <>
      <div class={comparing ? "columns" : "stack"}>
        <LookInput
          title={comparing ? words.first : null}
          models={all}
          model={first.model}
          text={first.text}
          names={["model", "text"]}
        />
        {comparing && (
          <LookInput
            title={words.second}
            models={all}
            model={second.model}
            text={second.text}
            names={["model2", "text2"]}
          />
        )}
      </div>
      {comparing && shape && (
        <Card>
          <AttentionOptions model={shape} options={options} stretch={stretch} onStretch={setStretch} />
        </Card>
      )}
      <div class={comparing ? "columns comparing" : "stack"}>
        {panel(first, texts[0])}
        {comparing && panel(second, texts[1])}
      </div>
      {comparing && first.model && second.model && texts[0].trim() && texts[1].trim() && (
        <Differences
          left={{ model: first.model.id, input: texts[0] }}
          right={{ model: second.model.id, input: texts[1] }}
          options={options}
          onPick={(layer, head) => note({ layer, head, view: "heatmap" })}
        />
      )}
      {!comparing && first.model && texts[0].trim() && <DriftCard model={first.model} text={texts[0]} />}
    </>
  );
}

/** The first where none is named; null where there is none of that name. */
function wanted(all: readonly Model[], name: string | null): Model | null {
  return name === null ? all[0] : (named(all, name) ?? null);
}

/** [ and ] walk the heads, { and } the layers, wherever one is but in a field. */
function useHeadKeys(model: Model | null, layer: number, head: number): void {
  useEffect(() => {
    if (!model) return;
    const walk = (event: KeyboardEvent) => {
      if (event.target instanceof Element && event.target.closest("textarea, select, input:not([type=radio])")) return;
      const clamp = (value: number, count: number): number => Math.max(0, Math.min(count - 1, value));
      if (event.key === "[") note({ head: clamp(head - 1, model.num_heads) });
      if (event.key === "]") note({ head: clamp(head + 1, model.num_heads) });
      if (event.key === "{") note({ layer: clamp(layer - 1, model.num_layers) });
      if (event.key === "}") note({ layer: clamp(layer + 1, model.num_layers) });
    };
    document.addEventListener("keydown", walk);
    return () => document.removeEventListener("keydown", walk);
  }, [model, layer, head]);
}
