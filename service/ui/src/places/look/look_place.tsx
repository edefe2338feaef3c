// Look inside: one text in one model, or two of them side by side.

import { useEffect, useState } from "preact/hooks";
import { models, seen, type Model } from "../../api/models";
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
  const named = (name: string | null): Model =>
    all.find((model) => model.id === name || model.aliases.includes(name ?? "")) ?? all[0];
  const comparing = query.has("text2");
  const first = { model: named(query.get("model")), text: query.get("text") ?? EXAMPLES[0] };
  const second = { model: named(query.get("model2") ?? query.get("model")), text: query.get("text2") ?? "" };
  const texts = [useSettled(first.text, PAUSE_MS), useSettled(second.text, PAUSE_MS)];
  useHeadKeys(first.model, options.layer, options.head);
  const panel = (model: Model, text: string) =>
    text.trim() && (
      <Panel
        model={model}
        text={text}
        options={options}
        compared={comparing}
        stretch={stretch}
        onStretch={setStretch}
        onPick={(layer, head) => note({ layer, head, view: "heatmap" })}
      />
    );
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
      {comparing && (
        <Card>
          <AttentionOptions model={first.model} options={options} stretch={stretch} onStretch={setStretch} />
        </Card>
      )}
      <div class={comparing ? "columns comparing" : "stack"}>
        {panel(first.model, texts[0])}
        {comparing && panel(second.model, texts[1])}
      </div>
      {comparing && texts[0].trim() && texts[1].trim() && (
        <Differences
          left={{ model: first.model.id, input: texts[0] }}
          right={{ model: second.model.id, input: texts[1] }}
          options={options}
          onPick={(layer, head) => note({ layer, head, view: "heatmap" })}
        />
      )}
      {!comparing && texts[0].trim() && <DriftCard model={first.model} text={texts[0]} />}
    </>
  );
}

/** [ and ] walk the heads, { and } the layers, wherever one is but in a field. */
function useHeadKeys(model: Model, layer: number, head: number): void {
  useEffect(() => {
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
