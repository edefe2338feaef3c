import type { ComponentChildren } from "preact";
import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import { note } from "../../base/router";
import { Choice } from "../../parts/choice";
import { lookWords } from "../../words/look";
import { KINDS, MERGES, SPECIALS, VIEWS, type LookOptions } from "./options";

interface AttentionOptionsProps {
  model: Model;
  options: LookOptions;
  stretch: boolean;
  onStretch: (stretch: boolean) => void;
}

/** How attention is shown, and which head. */
export function AttentionOptions({ model, options, stretch, onStretch }: AttentionOptionsProps) {
  const words = useWords(lookWords);
  const layer = Math.min(options.layer, model.num_layers - 1);
  const head = Math.min(options.head, model.num_heads - 1);
  return (
    <div class="options export-no">
      <Labelled name={words.view}>
        <Choice
          name={words.view}
          options={VIEWS}
          value={options.view}
          label={(view) => words.views[view]}
          onChange={(view) => note({ view })}
        />
      </Labelled>
      <Labelled name={words.merge}>
        <Choice
          name={words.merge}
          options={MERGES}
          value={options.merge}
          label={(merge) => words.merges[merge]}
          onChange={(merge) => note({ merge })}
        />
      </Labelled>
      <Labelled name={words.special}>
        <Choice
          name={words.special}
          options={SPECIALS}
          value={options.special}
          label={(special) => words.specials[special]}
          onChange={(special) => note({ special })}
        />
      </Labelled>
      <Labelled name={words.kind}>
        <Choice
          name={words.kind}
          options={KINDS}
          value={options.method}
          label={(kind) => words.kinds[kind]}
          onChange={(method) => note({ method })}
        />
      </Labelled>
      <Labelled name={words.layer}>
        <Choice
          name={words.layer}
          options={upTo(model.num_layers)}
          value={layer}
          onChange={(chosen) => note({ layer: chosen })}
        />
      </Labelled>
      {options.method !== "rollout" && (
        <Labelled name={words.head}>
          <Choice
            name={words.head}
            options={upTo(model.num_heads)}
            value={head}
            onChange={(chosen) => note({ head: chosen })}
          />
        </Labelled>
      )}
      <label class="check">
        <input type="checkbox" checked={stretch} onChange={(event) => onStretch(event.currentTarget.checked)} />
        {words.scale}
      </label>
    </div>
  );
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

function Labelled({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div class="option">
      <span aria-hidden="true">{name}</span>
      {children}
    </div>
  );
}
